package rollingupgrade

import "time"

// zeroHour is when a synctest bubble begins.
var zeroHour = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
