package aliyun

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Inspect implements [provider.Inspector]. It takes any number of ids.
func (p *Provider) Inspect(ctx context.Context, groupID string, u provider.Update, ids []string) (provider.Inspection, error) {
	out, err := p.inspect(ctx, groupID, u, ids)
	if err != nil {
		return provider.Inspection{}, err
	}
	return out, nil
}

func (p *Provider) inspect(ctx context.Context, groupID string, u provider.Update, ids []string) (out provider.Inspection, err error) {
	g, err := p.group(ctx, groupID)
	if err != nil {
		return out, err
	}
	feed, err := p.source(ctx, g)
	if err != nil {
		return out, err
	}
	if out.InstanceRefreshID, err = p.refresh(ctx, groupID); err != nil {
		return out, err
	}
	if u.Image != nil {
		if err := p.fromImage(ctx, &feed); err != nil {
			return out, err
		}
		images, err := p.images(ctx, u.Image.ImageID)
		if err != nil {
			return out, err
		}
		if img, ok := images[u.Image.ImageID]; ok {
			out.Image = &img.Image
		}
	}
	out.Configuration = feed.Configuration
	if len(ids) == 0 {
		return out, nil
	}
	found, err := p.describe(ctx, ids)
	if err != nil {
		return out, err
	}
	there := make([]string, 0, len(ids))
	wanted := make([]diskQuery, 0, len(ids))
	for _, id := range ids {
		if _, ok := found[id]; ok {
			there = append(there, id)
			wanted = append(wanted, diskQuery{instanceID: id})
		}
	}
	var disks map[string]diskView
	var online map[string]bool
	if u.Kind == provider.ScriptUpdate {
		online, err = p.agents(ctx, there)
	} else {
		disks, err = p.systemDisks(ctx, wanted)
	}
	if err != nil {
		return out, err
	}
	weights, err := p.weights(ctx, groupID, len(loadBalancers(g)) > 0, feed.weight)
	if err != nil {
		return out, err
	}
	for _, id := range there {
		i := found[id]
		keyPair := firstOf(feed.keyPair, i.KeyPairName)
		if strings.EqualFold(firstOf(i.OSType, i.OsType), "windows") {
			keyPair = "" // they are for Linux
		}
		out.Instances = append(out.Instances, provider.InstanceDetail{
			ID: id, Disk: disks[id].Disk, AgentOffline: online != nil && !online[id],
			LoginLost:    u.Kind == provider.ImageUpdate && keyPair == "" && !feed.passwordInherit,
			CustomWeight: weights[id],
		})
	}
	return out, nil
}

// weights are the load balancer weights of instances in service that differ from that of the configuration. The list of members shows
// them for classic load balancers; the member is deprecated, and what it shows for others is unverified.
func (p *Provider) weights(ctx context.Context, groupID string, balanced bool, usual int) (map[string]int, error) {
	if !balanced || usual == 0 {
		return nil, nil
	}
	members, err := p.members(ctx, groupID)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int)
	for _, m := range members {
		serving := m.LifecycleState == string(provider.InService) || m.LifecycleState == string(provider.Protected)
		if serving && m.LoadBalancerWeight > 0 && m.LoadBalancerWeight != usual {
			out[m.InstanceId] = m.LoadBalancerWeight
		}
	}
	return out, nil
}

// refreshing are the states of an instance refresh that is not over.
const refreshing = " Pending InProgress Paused CheckpointPause Cancelling RollbackInProgress "

// refresh returns the ID of an instance refresh of the group that is not over; empty if there is none. The SDK
// does not have the action. It accepts HTTPS only.
func (p *Provider) refresh(ctx context.Context, groupID string) (id string, err error) {
	const action = "DescribeInstanceRefreshes"
	err = byToken(action, func(token string) (string, error) {
		req := requests.NewCommonRequest()
		req.Product, req.Version, req.ApiName, req.Method = "Ess", "2014-08-28", action, requests.POST
		req.QueryParams["ScalingGroupId"], req.QueryParams["MaxResults"] = groupID, "50"
		if token != "" {
			req.QueryParams["NextToken"] = token
		}
		req.TransToAcsRequest()
		resp := responses.NewCommonResponse()
		if err := p.call(ctx, req, resp); err != nil {
			return "", err
		}
		var answer struct {
			InstanceRefreshTasks struct {
				InstanceRefreshTask []struct{ InstanceRefreshTaskId, Status string }
			}
			NextToken string
		}
		if err := json.Unmarshal(resp.GetHttpContentBytes(), &answer); err != nil {
			return "", &Error{Action: action, Code: "Unreadable", Message: "the answer cannot be read", class: provider.ErrTransient}
		}
		for _, t := range answer.InstanceRefreshTasks.InstanceRefreshTask {
			if strings.Contains(refreshing, " "+t.Status+" ") {
				id = t.InstanceRefreshTaskId
				return "", nil
			}
		}
		return answer.NextToken, nil
	})
	var e *Error
	if errors.As(err, &e) && e.Code == "InvalidApi.NotFound" { // not in every region
		return "", nil
	}
	return id, err
}
