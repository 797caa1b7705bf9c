package main

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// tell runs the story in a bubble and returns what it wrote.
func tell(t *testing.T, l ru.Language, live bool) string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		if err := run(t.Context(), newScreen(&out, l, live)); err != nil {
			t.Errorf("run: %v\n%s", err, out.String())
		}
	})
	return out.String()
}

// inOrder demands that each pattern matches a line after the one that the pattern before it matched.
func inOrder(t *testing.T, out string, patterns ...string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	at := 0
	for _, p := range patterns {
		re := regexp.MustCompile(p)
		for at < len(lines) && !re.MatchString(lines[at]) {
			at++
		}
		if at == len(lines) {
			t.Fatalf("no line %q in its place:\n%s", p, out)
		}
		at++
	}
}

func TestS12_S22_S27_PlainLines(t *testing.T) {
	out := tell(t, ru.English, false)
	inOrder(t, out,
		`plan for asg-demo: 10 instances in service`, `batch 1: i-0001 .* \(5 stay in service\)`, `batch 2: i-0006`,
		`rolling upgrade of asg-demo to img-v2: task-`, `task: running`, `batch 1 of 2 begins`, `batch 1 of 2 is done`, `task: batch paused`,
		`operator: .*continue`, `task: running`, `batch 2 of 2 begins`, `i-0008 failed: .`, `task: failure paused`,
		`operator: .*retry`, `i-0008 running`, `i-0008 succeeded`, `batch 2 of 2 is done`, `task: succeeded`, `=== 10 instances: InService, img-v2`,
		`operator: .*roll everything back`, `rollback of asg-demo to img-v1: task-`, `task: succeeded`, `=== 10 instances: InService, img-v1`)
	if n := len(regexp.MustCompile(`i-\d+ succeeded`).FindAllString(out, -1)); n != 20 {
		t.Errorf("%d instances succeeded in all, want 10 there and 10 back:\n%s", n, out)
	}
	if n := strings.Count(out, "\n"); n > 60 {
		t.Errorf("%d lines are a flood", n)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("plain lines hold terminal codes")
	}
}

func TestS12_S22_S27_PlainLinesInChinese(t *testing.T) {
	out := tell(t, ru.Chinese, false)
	inOrder(t, out,
		`计划：伸缩组 asg-demo，10 台实例服务中`, `第 1 批：i-0001`, `提示：任务成功后`, `滚动升级 asg-demo → img-v2`, `任务：等待中（批次暂停）`, `操作：.*继续`,
		`i-0008 失败`, `任务：等待中（失败暂停）`, `操作：.*重试`, `任务：成功`, `10 台实例：服务中，img-v2`, `操作：.*回滚`, `任务：成功`, `10 台实例：服务中，img-v1`)
}

func TestS32_LiveTableIsDrawnOver(t *testing.T) {
	raw := tell(t, ru.English, true)
	got := render(raw)
	table := func(title, state string, rows ...string) []string {
		lines := []string{title + ": " + state}
		return append(lines, rows...)
	}
	full := strings.Repeat("█", 20)
	var want []string
	want = append(want, table("rollback of asg-demo to img-v1", "succeeded",
		"  batch 1  "+full+"  5/5", "    ✓ i-0001  succeeded", "    ✓ i-0002  succeeded", "    ✓ i-0003  succeeded", "    ✓ i-0004  succeeded", "    ✓ i-0005  succeeded",
		"  batch 2  "+full+"  5/5", "    ✓ i-0006  succeeded", "    ✓ i-0007  succeeded", "    ✓ i-0008  succeeded", "    ✓ i-0009  succeeded", "    ✓ i-0010  succeeded")...)
	want = append(want, "=== 10 instances: InService, img-v1")
	tail := got[max(0, len(got)-len(want)):]
	if diff := cmp.Diff(want, tail); diff != "" {
		t.Errorf("end of the screen (-want +got):\n%s", diff)
	}
	inOrder(t, strings.Join(got, "\n"), `img-v2: batch paused`, `operator: .*continue`, `img-v2: failure paused`, `batch 2  █+░+  4/5`, `✗ i-0008  failed: .`, `operator: .*retry`, `img-v2: succeeded`)
	if !strings.Contains(raw, "● i-0001  updating") && !strings.Contains(strip(raw), "● i-0001  updating") {
		t.Error("an instance at work does not show its step")
	}
}

var codes = regexp.MustCompile(`\x1b\[[?0-9;]*[A-Za-z]`)

func strip(s string) string { return codes.ReplaceAllString(s, "") }

// render is what a terminal shows in the end: it knows "up" and ignores the other codes.
func render(out string) []string {
	var screen []string
	row := 0
	up := regexp.MustCompile(`\x1b\[(\d+)A`)
	for line := range strings.Lines(out) {
		for _, m := range up.FindAllStringSubmatch(line, -1) {
			n := 0
			for _, c := range m[1] {
				n = n*10 + int(c-'0')
			}
			row -= n
		}
		if text := strip(strings.TrimSuffix(line, "\n")); row < len(screen) {
			screen[row] = text
		} else {
			screen = append(screen, text)
		}
		row++
	}
	if last := len(screen) - 1; last >= 0 && screen[last] == "" {
		screen = screen[:last]
	}
	return screen
}

func TestLanguage(t *testing.T) {
	for _, tc := range []struct {
		name, flag string
		env        map[string]string
		want       ru.Language
	}{
		{name: "nothing set", want: ru.English},
		{name: "LANG", env: map[string]string{"LANG": "zh_CN.UTF-8"}, want: ru.Chinese},
		{name: "LC_ALL wins over LANG", env: map[string]string{"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, want: ru.English},
		{name: "the flag wins over all", flag: "en", env: map[string]string{"LC_ALL": "zh_CN"}, want: ru.English},
		{name: "the flag", flag: "zh", want: ru.Chinese},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := language(tc.flag, func(k string) string { return tc.env[k] }); got != tc.want {
				t.Errorf("language = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := run(ctx, newScreen(&strings.Builder{}, ru.English, false)); err == nil {
			t.Error("run ended well under a context that is done")
		}
	})
}
