package openapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// algorithmV3 is the newer way of signing, in the headers.
const algorithmV3 = "ACS3-HMAC-SHA256"

func isV3(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), algorithmV3+" ")
}

// authenticate refuses a request that is not signed with the secret, is too old, or was seen before.
func (h *Handler) authenticate(r *http.Request, c *call) error {
	if isV3(r) {
		return h.authenticateV3(r, c)
	}
	for _, k := range []string{"AccessKeyId", "Signature", "SignatureMethod", "SignatureNonce", "SignatureVersion", "Timestamp"} {
		if c.common[k] == "" {
			return c.refuse("MissingParameter", 400, "%s", k)
		}
	}
	if m, v := c.common["SignatureMethod"], c.common["SignatureVersion"]; m != "HMAC-SHA1" || v != "1.0" {
		return c.refuse("IncompleteSignature", 400, "signature method %s version %s", m, v)
	}
	if t := c.common["SignatureType"]; t != "" {
		return c.refuse("IncompleteSignature", 400, "signature type %s", t)
	}
	if err := h.checkKey(c, c.common["AccessKeyId"]); err != nil {
		return err
	}
	text := stringToSign(r.Method, c.signed)
	if !hmac.Equal([]byte(c.common["Signature"]), []byte(Sign(h.cfg.Secret, text))) {
		return &signatureError{refused: c.refuse("SignatureDoesNotMatch", 403, ""), text: text}
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", c.common["Timestamp"])
	if err != nil {
		return c.refuse("InvalidTimeStamp.Format", 400, "%s", c.common["Timestamp"])
	}
	return h.checkFresh(c, at, c.common["AccessKeyId"]+" "+c.common["SignatureNonce"])
}

// signatureError tells the client what the server signed, as the service does.
type signatureError struct {
	refused error
	text    string
}

func (e *signatureError) Error() string { return e.refused.Error() }
func (e *signatureError) Unwrap() error { return e.refused }

// Sign returns the signature of a string to sign (HMAC-SHA1).
func Sign(secret, stringToSign string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(stringToSign))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// stringToSign is what an RPC request signs: its method and its parameters but the signature, sorted.
func stringToSign(method string, params map[string]string) string {
	values := make(url.Values, len(params))
	for k, v := range params {
		if k != "Signature" {
			values.Set(k, v)
		}
	}
	return method + "&%2F&" + escape(strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(values.Encode()))
}

func escape(s string) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(s))
}

func (h *Handler) checkKey(c *call, id string) error {
	if len(h.cfg.AccessKeys) > 0 && !slices.Contains(h.cfg.AccessKeys, id) {
		return c.refuse("InvalidAccessKeyId.NotFound", 404, "access key ID %s", id)
	}
	return nil
}

// checkFresh refuses a request of another time, and one whose nonce was used before.
func (h *Handler) checkFresh(c *call, at time.Time, nonce string) error {
	now := time.Now()
	if d := now.Sub(at); h.cfg.Skew > 0 && (d > h.cfg.Skew || d < -h.cfg.Skew) {
		return c.refuse("InvalidTimeStamp.Expired", 400, "the request is of %s", at.Format(time.RFC3339))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, used := h.nonces[nonce]; used {
		return c.refuse("SignatureNonceUsed", 400, "nonce %s", nonce)
	}
	if len(h.nonces) >= 1<<16 { // with the time checked, older ones cannot come again
		for n, used := range h.nonces {
			if now.Sub(used) > 2*h.cfg.Skew {
				delete(h.nonces, n)
			}
		}
	}
	h.nonces[nonce] = now
	return nil
}

// authenticateV3 checks the signature in the headers: the parameters are in the query, or in a form that is signed by its hash.
func (h *Handler) authenticateV3(r *http.Request, c *call) error {
	fields := make(map[string]string)
	for _, f := range strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), algorithmV3+" "), ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	if fields["Credential"] == "" || fields["Signature"] == "" || fields["SignedHeaders"] == "" {
		return c.refuse("IncompleteSignature", 400, "the Authorization header lacks a field")
	}
	if err := h.checkKey(c, fields["Credential"]); err != nil {
		return err
	}
	sum := sha256.Sum256(c.form)
	hash := hex.EncodeToString(sum[:])
	if got := r.Header.Get("x-acs-content-sha256"); got != hash {
		return c.refuse("SignatureDoesNotMatch", 403, "the hash of the body is %s", hash)
	}
	var headers strings.Builder
	for _, k := range strings.Split(fields["SignedHeaders"], ";") {
		v := strings.TrimSpace(strings.Join(r.Header.Values(k), ","))
		if strings.EqualFold(k, "host") {
			v = r.Host
		}
		headers.WriteString(k + ":" + v + "\n")
	}
	query := strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(r.URL.Query().Encode())
	canonical := strings.Join([]string{r.Method, "/", query, headers.String(), fields["SignedHeaders"], hash}, "\n")
	sum = sha256.Sum256([]byte(canonical))
	text := algorithmV3 + "\n" + hex.EncodeToString(sum[:])
	mac := hmac.New(sha256.New, []byte(h.cfg.Secret))
	mac.Write([]byte(text))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(fields["Signature"])) != 1 {
		return &signatureError{refused: c.refuse("SignatureDoesNotMatch", 403, ""), text: canonical}
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", r.Header.Get("x-acs-date"))
	if err != nil {
		return c.refuse("InvalidTimeStamp.Format", 400, "%s", r.Header.Get("x-acs-date"))
	}
	nonce := r.Header.Get("x-acs-signature-nonce")
	if nonce == "" {
		return c.refuse("MissingParameter", 400, "x-acs-signature-nonce")
	}
	return h.checkFresh(c, at, fields["Credential"]+" "+nonce)
}
