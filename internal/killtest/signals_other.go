//go:build !unix

package killtest

import (
	"errors"
	"os"
)

// Supported says that processes can be frozen here.
const Supported = false

func freeze(*os.Process) error { return errors.ErrUnsupported }
func thaw(*os.Process) error   { return errors.ErrUnsupported }
func term(*os.Process) error   { return errors.ErrUnsupported }
func dump(*os.Process) error   { return errors.ErrUnsupported }
