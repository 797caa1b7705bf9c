package aliyun

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// imageStates are all states of images; without them only Available ones are shown.
const imageStates = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"

// An imageView is an image as the cloud shows it, with the snapshots of data disks in it.
type imageView struct {
	provider.Image
	dataSnapshots []string
}

// images reads those of ids that exist, whatever their state.
func (p *Provider) images(ctx context.Context, ids ...string) (map[string]imageView, error) {
	req := ecs.CreateDescribeImagesRequest()
	req.ImageId, req.Status, req.ShowExpired = strings.Join(ids, ","), imageStates, requests.NewBoolean(true)
	req.PageNumber, req.PageSize = requests.NewInteger(1), requests.NewInteger(maxInstances)
	resp := ecs.CreateDescribeImagesResponse()
	if err := p.call(ctx, req, resp); err != nil {
		return nil, err
	}
	out := make(map[string]imageView, len(ids))
	for _, i := range resp.Images.Image {
		v := imageView{Image: provider.Image{
			ID: i.ImageId, Status: i.Status, OS: i.OSType, Architecture: i.Architecture, SizeGiB: i.Size,
			Unsubscribed: i.ImageOwnerAlias == "marketplace" && !i.IsSubscribed,
		}}
		for _, m := range i.DiskDeviceMappings.DiskDeviceMapping {
			if m.Type == "data" {
				v.DataDisks = true
				v.dataSnapshots = append(v.dataSnapshots, m.SnapshotId)
			}
		}
		out[v.ID] = v
	}
	return out, nil
}

// unusable says why an image cannot replace a system disk.
func unusable(img *provider.Image, id string) error {
	e := &Error{Action: opUpdate, HTTPStatus: http.StatusBadRequest, Message: clean(id, nil), class: provider.ErrInvalid}
	switch {
	case img == nil:
		e.Code, e.HTTPStatus = "InvalidImageId.NotFound", http.StatusNotFound
	case img.Status != "Available":
		e.Code, e.Message = "OperationDenied.ImageNotValid", fmt.Sprintf("%s is %s", e.Message, img.Status)
	case img.DataDisks:
		e.Code, e.Message = "OperationDenied", e.Message+" contains snapshots of data disks"
	case img.Unsubscribed:
		e.Code = "ImageNotSubscribed"
	default:
		return nil
	}
	return e
}
