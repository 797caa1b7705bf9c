package repocheck

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Block is a piece of code in a Markdown file.
type Block struct {
	Line     int // where it begins
	Language string
	Code     string
}

// Blocks returns the fenced pieces of code of a Markdown text.
func Blocks(text string) []Block {
	var all []Block
	var open *Block
	for n, line := range strings.Split(text, "\n") {
		fence, language := strings.CutPrefix(line, "```")
		switch {
		case !language && open == nil:
		case !language:
			open.Code += line + "\n"
		case open == nil:
			open = &Block{Line: n + 1, Language: fence}
		default:
			all = append(all, *open)
			open = nil
		}
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// MarkdownLinks returns the relative links of a Markdown file that lead nowhere, one line each.
func MarkdownLinks(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var broken []string
	for n, line := range strings.Split(string(text), "\n") {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if target == "" {
				if !slices.Contains(anchors(string(text)), anchor) {
					broken = append(broken, fmt.Sprintf("%s:%d: %s leads nowhere", filepath.Base(file), n+1, m[1]))
				}
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), target)); err != nil {
				broken = append(broken, fmt.Sprintf("%s:%d: %s leads nowhere", filepath.Base(file), n+1, m[1]))
			}
		}
	}
	return broken, nil
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)

// anchors are the places in a Markdown text that a link can name: its headings.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); len(title) < len(line) && strings.HasPrefix(title, " ") {
			title = notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			all = append(all, strings.ReplaceAll(title, " ", "-"))
		}
	}
	return all
}

// Build builds a Go program that uses the module in dir, after a look by go vet. It returns what the tools print.
func Build(dir, program, code string) (string, error) {
	file := program + ".go"
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"vet", file}, {"build", "-o", program, file}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out), fmt.Errorf("go %s: %w", args[0], err)
		}
	}
	return "", nil
}

// Table returns the first table after a line of a Markdown text: rows of cells, without the line under the head.
func Table(text, after string) [][]string {
	_, text, found := strings.Cut(text, after+"\n")
	if !found {
		return nil
	}
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for n := range cells {
			cells[n] = strings.TrimSpace(cells[n])
		}
		if strings.Trim(strings.Join(cells, ""), "- :") != "" {
			rows = append(rows, cells)
		}
	}
	return rows
}
