package aliyun

import (
	"fmt"
	"hash/fnv"
)

// tokenOf is the client token of a call: the call ID, and a hash of what the call carries. A call that is sent
// again for what is left of its targets is another one to the service, and another set of instances never goes out under
// an old token. The service takes 64 ASCII characters; these are 57 at most.
func tokenOf(callID string, of ...string) string {
	h := fnv.New64a()
	for _, s := range of {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return fmt.Sprintf("%s-%016x", callID, h.Sum64())
}
