package provider

import (
	"errors"
)

// Errors are classified by wrapping one of these. What a class means for a side effect
// matters most: after ErrThrottled, ErrBusy, ErrRefused, ErrNotBegun, ErrPermission, ErrInvalid,
// ErrInvalidState and ErrNotFound nothing has happened; after ErrTransient, a context error or
// an error without a class nobody knows.
var (
	// ErrNotFound means that the group or instance does not exist, or that the instance is no member of the group.
	ErrNotFound = errors.New("not found")
	// ErrThrottled means that the call was not executed because there were too many; try again later.
	ErrThrottled = errors.New("throttled")
	// ErrBusy means that the call was not executed because something it needs is not ready yet:
	// a load balancer being configured, an agent coming up, a group or instance in transition.
	ErrBusy = errors.New("busy")
	// ErrTransient means that the call failed in a way that may pass, such as a lost connection or an
	// internal error of the service. Whether a side effect took place is not known.
	ErrTransient = errors.New("transient failure")
	// ErrRefused means that the whole call was refused because of another of its targets.
	ErrRefused = errors.New("refused together with the rest of the call")
	// ErrNotBegun means that the side effect of an earlier call is known not to have happened.
	ErrNotBegun = errors.New("not begun")
	// ErrPermission means that the credentials do not allow the call.
	ErrPermission = errors.New("permission denied")
	// ErrInvalid means that the cloud does not accept the request as it is.
	ErrInvalid = errors.New("invalid request")
	// ErrInvalidState means that the instance or group is not in a state that allows the call.
	ErrInvalidState = errors.New("invalid state")
	// ErrOutcomeUnknown means that it cannot be established whether an earlier call had its effect. For a call that acts the Runner goes on
	// looking, for a bounded time; as an Updater's answer to a look it is final.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrFailed means that the update ran and failed, such as a script with an exit code other than zero.
	ErrFailed = errors.New("update failed")
)

// Retryable reports whether err may pass by itself, so that the same call is worth another try.
func Retryable(err error) bool {
	return errors.Is(err, ErrThrottled) || errors.Is(err, ErrBusy) || Unknown(err)
}

// Unknown reports whether err leaves open whether the call had its effect.
// Errors without a class count as unknown.
func Unknown(err error) bool {
	if err == nil {
		return false
	}
	for _, known := range []error{ErrNotFound, ErrThrottled, ErrBusy, ErrRefused, ErrNotBegun, ErrPermission, ErrInvalid, ErrInvalidState, ErrFailed} {
		if errors.Is(err, known) {
			return false
		}
	}
	return true
}
