package openapi

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
)

// Transport returns a RoundTripper that calls the handler in process, without sockets, so that it also works in a
// testing/synctest bubble. A cut connection is a transport error. Values of the request's context reach the handler.
func (h *Handler) Transport() http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	in := r.Clone(ctx)
	if r.Body == nil {
		in.Body = http.NoBody
	} else {
		defer r.Body.Close() //nolint:errcheck // only read
	}
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if r.URL.Scheme == "https" {
		in.TLS = &tls.ConnectionState{}
	}
	in.RequestURI = r.URL.RequestURI()
	w := &recorder{header: make(http.Header)}
	cut := t.serve(w, in)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cut && w.status == 0 {
		return nil, io.EOF
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	var body io.Reader = &w.body
	if cut {
		body = io.MultiReader(body, errReader{io.ErrUnexpectedEOF})
	}
	length := int64(w.body.Len())
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: io.NopCloser(body), ContentLength: length, Request: r,
	}, nil
}

// serve reports whether the handler cut the connection.
func (t transport) serve(w http.ResponseWriter, r *http.Request) (cut bool) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // a panic value that net/http compares so
			cut = true
		} else if p != nil {
			panic(p)
		}
	}()
	t.handler.ServeHTTP(w, r)
	return false
}

// recorder keeps an answer.
type recorder struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

// Flush lets a handler flush.
func (w *recorder) Flush() {}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
