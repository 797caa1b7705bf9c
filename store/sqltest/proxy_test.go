package sqltest_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy stands between a driver and its server and loses what it is told to.
type proxy struct {
	server   string
	listener net.Listener
	// inTransactions says that every write is in a transaction that ends with a COMMIT; else saves are statements of their own.
	inTransactions bool
	// delay is how long everything takes to pass, in each direction.
	delay time.Duration

	mu     sync.Mutex
	conns  map[net.Conn]bool
	lose   loss          // what happens to the next COMMIT
	gone   bool          // connections are refused and those that are open are cut
	silent chan struct{} // not nil: nothing passes until it is closed
	lost   int
}

// loss is what a proxy does with a COMMIT.
type loss int

const (
	nothing    loss = iota
	request         // the server never sees it
	answer          // the server carries it out, and the connection is cut before its answer passes
	answerBut       // the same, but nothing is cut: the answer never comes
	standstill      // from right before it nothing passes any more, as if the client's machine had died: the server keeps the connection
)

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{server: server, listener: l, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.setGone(true)
		all.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// setGone makes the server go away or come back.
func (p *proxy) setGone(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = gone
	if gone {
		for c := range p.conns {
			c.Close()
		}
		if p.silent != nil {
			close(p.silent)
			p.silent = nil
		}
	}
}

// setSilent lets nothing pass any more, or everything again; connections stay.
func (p *proxy) setSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case silent && p.silent == nil:
		p.silent = make(chan struct{})
	case !silent && p.silent != nil:
		close(p.silent)
		p.silent = nil
	}
}

func (p *proxy) setLoss(l loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = l
}

func (p *proxy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.add(client) {
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(server) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	mute := make(chan loss, 1)
	var both sync.WaitGroup
	both.Go(func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			p.wait()
			time.Sleep(p.delay)
			select {
			case l := <-mute:
				if l == answerBut {
					<-ctx.Done()
				}
				return
			default:
			}
			if n > 0 {
				if _, err := client.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		p.wait()
		time.Sleep(p.delay)
		if n > 0 {
			l := p.commit(b[:n])
			if l == standstill {
				p.setSilent(true)
				p.wait()
			}
			if l == request || l == standstill {
				break
			}
			if l != nothing {
				mute <- l
			}
			if _, err := server.Write(b[:n]); err != nil {
				break
			}
			if l == answer {
				continue
			}
		}
		if err != nil {
			break
		}
	}
	cancel()
	client.Close()
	server.Close()
	both.Wait()
}

// commit says what to lose if b is a COMMIT, or the save of a head in a statement of its own.
func (p *proxy) commit(b []byte) loss {
	p.mu.Lock()
	defer p.mu.Unlock()
	commits := bytes.Contains(b, []byte("COMMIT")) && !bytes.Contains(b, []byte("COMMITTED"))
	if p.lose == nothing || !commits && (p.inTransactions || !bytes.Contains(b, []byte(`{"schema":`))) {
		return nothing
	}
	l := p.lose
	p.lose = nothing
	p.lost++
	return l
}

// wait waits as long as the proxy is silent.
func (p *proxy) wait() {
	p.mu.Lock()
	silent := p.silent
	p.mu.Unlock()
	if silent != nil {
		<-silent
	}
}

// eventually waits for something that must come true, and fails if it does not.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
