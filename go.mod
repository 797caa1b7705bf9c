module github.com/rollingupgrade/rollingupgrade

go 1.25
