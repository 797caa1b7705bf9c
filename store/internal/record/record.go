// Package record turns what a store keeps back into the parts of a task.
package record

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// Head decodes a head. One that a newer version of the library wrote comes back with as much as can be read of it, so that a
// list of tasks does not end there; its Schema says so, and the Runner refuses it.
func Head(b []byte) (*rollingupgrade.Head, error) {
	h := &rollingupgrade.Head{}
	err := json.Unmarshal(b, h)
	if err == nil {
		return h, nil
	}
	var least struct {
		Schema    int                     `json:"schema"`
		ID        string                  `json:"id"`
		GroupID   string                  `json:"group_id"`
		Kind      rollingupgrade.TaskKind `json:"kind"`
		Status    rollingupgrade.Status   `json:"status"`
		CreatedAt time.Time               `json:"created_at"`
		Holds     bool                    `json:"holds_group"`
		Version   int64                   `json:"version"`
	}
	if json.Unmarshal(b, &least) != nil || least.Schema <= rollingupgrade.SchemaVersion {
		return nil, err
	}
	*h = rollingupgrade.Head{
		Schema: least.Schema, ID: least.ID, GroupID: least.GroupID, Kind: least.Kind, Status: least.Status,
		CreatedAt: least.CreatedAt, HoldsGroup: least.Holds, Version: least.Version,
	}
	return h, nil
}

// Part decodes a row, an event or an output of a task whose record has that schema. Of a newer
// version of the library it may be in a form that cannot be read: that is ErrNewerSchema.
func Part(b []byte, schema int, v any) error {
	err := json.Unmarshal(b, v)
	if err != nil && schema > rollingupgrade.SchemaVersion {
		return fmt.Errorf("schema %d, this version knows %d: %w", schema, rollingupgrade.SchemaVersion, rollingupgrade.ErrNewerSchema)
	}
	return err
}

// Clip shortens an ID of unknown origin for a message.
func Clip(id string) string {
	if len(id) > 60 {
		return id[:60] + "..."
	}
	return id
}
