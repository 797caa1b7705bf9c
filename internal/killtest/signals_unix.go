//go:build unix

package killtest

import (
	"os"
	"syscall"
)

// Supported says that processes can be frozen here.
const Supported = true

func freeze(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }
func thaw(p *os.Process) error   { return p.Signal(syscall.SIGCONT) }
func term(p *os.Process) error   { return p.Signal(syscall.SIGTERM) }

// dump makes a Go program print what its goroutines do, and end.
func dump(p *os.Process) error { return p.Signal(syscall.SIGQUIT) }
