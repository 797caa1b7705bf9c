package rollingupgrade

import (
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// imageDue reports whether the image of the group's scaling configuration is to be set: to the new one by an
// upgrade, back to the old one by a rollback of a task that had set it.
func (m *machine) imageDue() bool {
	if !m.env.setsImage || m.t.Spec.Update.Kind != provider.ImageUpdate || m.t.Spec.configuration() == ConfigurationNever {
		return false
	}
	if m.t.Kind == Rollback {
		return m.t.Ledger.Image != nil
	}
	return m.t.Ledger.Image == nil || m.t.Ledger.Image.TaskID != m.t.ID
}

// reverting reports whether the image stage puts an old image back.
func (m *machine) reverting() bool { return m.t.Kind == Rollback || m.putsBack() }

// settingImage reads the configuration, then sets its image.
func (m *machine) settingImage() ([]*call, bool) {
	if m.t.Ledger.Call == nil {
		return m.groupCall(&call{op: opReadImage}), false
	}
	want := m.t.Ledger.Image.New
	if m.reverting() {
		want = m.t.Ledger.Image.Old
	}
	return m.groupCall(&call{op: opSetImage, configuration: want}), false
}

// applyImage takes an outcome of an image stage.
func (m *machine) applyImage(o *outcome) {
	l := &m.t.Ledger
	switch {
	case o.err != nil && errors.Is(o.err, provider.ErrNotFound) && m.t.Status == StatusRunning:
		l.Call = nil
		m.imageDone(fmt.Sprintf("the scaling configuration was not found: %v", o.err))
	case o.err != nil && m.putsBack():
		if !m.groupRetry(o.err, m.groupLimit()) {
			l.Call = nil
			m.t.Restore.Error = joinText(m.t.Restore.Error, fmt.Sprintf("configuration image: %v", o.err))
			m.imageDone("")
		}
	case o.err != nil:
		m.groupFailed(o.err)
	case o.call.op == opReadImage && m.reverting():
		if l.Image == nil || o.config.ID != l.Image.Old.ID || o.config.ImageID != l.Image.New.ImageID {
			l.Image = nil
			m.imageDone("the scaling configuration does not hold the task's image any more; it was left alone")
			return
		}
		m.intend(opSetImage)
	case o.call.op == opReadImage:
		m.startImage(o.config)
	case m.reverting():
		text := "the scaling configuration has its old image again: " + l.Image.Old.ImageID
		l.Image, l.Call = nil, nil
		m.imageDone(text)
	default:
		l.Image.Done, l.Call = true, nil
		m.imageDone("the scaling configuration " + l.Image.New.ID + " now has image " + l.Image.New.ImageID)
	}
}

// startImage writes down the old image, then the call that changes it.
func (m *machine) startImage(now provider.Configuration) {
	want := m.t.Spec.Update.Image.ImageID
	switch {
	case now.LaunchTemplate:
		m.imageDone("the group is fed by launch template " + now.ID + ", which still names image " + now.ImageID)
	case now.ID == "" || now.ImageID == want:
		m.imageDone("")
	case now.DataDisksFromImage && !m.t.Spec.Consent.DataDiskLoss:
		m.imageDone("setting the image would drop the data disks of scaling configuration " + now.ID + "; it was left alone")
	default:
		m.t.Ledger.Image = &ImageChange{Old: now, New: provider.Configuration{ID: now.ID, ImageID: want}, TaskID: m.t.ID}
		m.intend(opSetImage)
	}
}

// imageDone leaves the image stage.
func (m *machine) imageDone(text string) {
	if text != "" {
		m.event(Event{Kind: EventImage, Cause: ByPolicy, Text: text})
	}
	switch m.t.Stage {
	case stageEarlyImage:
		m.afterBatch()
	case stageReverting:
		m.stage("", stageReleasing)
	default:
		m.stage(Finishing, stageChecking)
	}
}

func joinText(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
