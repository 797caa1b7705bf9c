package aliyun

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxText is how much of a text of the service an error holds.
const maxText = 500

var (
	// signed is where messages about signatures begin to repeat the whole request.
	signed = regexp.MustCompile(`(?is)(server )?string to sign( is)?\s*:.*`)
	// links are URLs; their query is dropped.
	links = regexp.MustCompile(`(?i)(https?://[^\s"'?#]*)[?#][^\s"']*`)
	// pairs are parameters of a request.
	pairs = regexp.MustCompile(`(?i)\b(Signature|SignatureNonce|SecurityToken|BearerToken|AccessKeyId|AccessKeySecret|Password|CommandContent|UserData|Parameters)(=|%3D|"?\s*:\s*"?)[^\s&"',}]+`)
)

// clean makes a text from outside fit for errors: no secrets, one line, not too long.
func clean(s string, secrets []string) string {
	return clip(strings.Join(strings.Fields(redact(redactSecrets(s, secrets))), " "), maxText)
}

// redact takes out of a text what looks like a part of a request.
func redact(s string) string {
	s = signed.ReplaceAllString(s, "string to sign: …")
	s = links.ReplaceAllString(s, "$1")
	return pairs.ReplaceAllString(s, "$1$2…")
}

// leastSecret is the length from which a text is looked for in messages.
const leastSecret = 4

// redactSecrets takes out of a text what the request held in confidence, as it is and as URLs write it.
func redactSecrets(s string, secrets []string) string {
	for _, secret := range secrets {
		if len(secret) < leastSecret {
			continue
		}
		once := url.QueryEscape(secret)
		for _, form := range []string{secret, once, url.QueryEscape(once), strings.ReplaceAll(once, "+", "%20")} {
			s = strings.ReplaceAll(s, form, "…")
		}
	}
	return s
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
