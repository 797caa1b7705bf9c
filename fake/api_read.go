package fake

import (
	"context"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// DescribeUserData reports the user data (base64) of an instance.
func (a API) DescribeUserData(ctx context.Context, id string) (userData string, err error) {
	const action = "DescribeUserData"
	err = a.c.wire(ctx, action, "", []string{id}, "", func(time.Time, caller) error {
		i := a.c.instances[id]
		if i == nil {
			return &APIError{Action: action, Code: "InvalidInstanceId.NotFound", HTTPStatus: 404, Message: id, Err: provider.ErrNotFound}
		}
		userData = i.userData
		return nil
	})
	return clean(userData, err)
}

// DescribeCloudAssistantStatus reports the instances among ids that exist; their AgentOnline says whether the agent answers.
func (a API) DescribeCloudAssistantStatus(ctx context.Context, ids []string) (out []InstanceView, err error) {
	err = a.c.wire(ctx, "DescribeCloudAssistantStatus", "", ids, "", func(time.Time, caller) error {
		out = a.c.views("", ids)
		return nil
	})
	return clean(out, err)
}

// DescribeInstanceRefreshes reports the ID of a group's instance refresh in progress; empty if there is none.
func (a API) DescribeInstanceRefreshes(ctx context.Context, groupID string) (refreshID string, err error) {
	const action = "DescribeInstanceRefreshes"
	err = a.c.wire(ctx, action, groupID, nil, "", func(time.Time, caller) error {
		g, err := a.c.findGroup(action, groupID)
		if err == nil {
			refreshID = g.refreshID
		}
		return err
	})
	return clean(refreshID, err)
}
