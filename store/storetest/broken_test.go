package storetest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/storetest"
)

// A flaw is one way in which a store is broken.
type flaw int

const (
	none flaw = iota
	fieldForgotten
	rowFieldForgotten
	localTimes
	microseconds
	floats
	zeroIsNil
	nulCut
	longTextCut
	invalidRefused
	groupsFolded
	groupsByPrefix
	idsFolded
	nonceForgotten
	nonceIsEnough
	busyFirst
	notFoundUnclassed
	unknownIsEmpty
	saveCreates
	priorIgnored
	priorFirst
	priorLate
	rowsLate
	priorUnchecked
	priorMustHold
	unknownPriorIgnored
	checkedOutsideLock
	headsMerged
	rowsMerged
	rowsDropped
	rowsNotAdded
	rowsUnsorted
	placesAsText
	firstPlaceKept
	headAloneDrops
	rowsCapped
	rowsByInstance
	lastWriteWins
	laterVersions
	halfApplied
	endedFrozen
	groupFreeForCreate
	groupFreeForSave
	holderUnnamed
	groupByStatus
	busySpoils
	afterInclusive
	eventsPageEdge
	eventsAsText
	eventsReversed
	eventLost
	eventsLate
	logFollowed
	outputsByInstance
	outputCut
	outputAppended
	outputLost
	noOutputIsEmpty
	wakeIgnored
	holdersByStatus
	limitIgnored
	staleIndex
	listedByID
	listedBySave
	listedBySecond
	oldestFirst
	listCapped
	pagedByOffset
	aliasIn
	aliasOut
	argumentsSorted
	contextIgnored
	halfOnCancel
	endsSilently
	lockedAfterStop
	errorRepeated
	lockedInLoop
	tornLoad
	crosstalk
	lifeIsConstant
	neverTold
	firstTold
	ownTold
	priorUntold
	tooEarlyTold
	stopIgnored
	stopsAnother
	lastSaveLost
	outputsNotDurable
	groupsNotDurable
	cached
	priorMayHold
	nanosecondsOnly
	firstOfTwoRows
	kindIgnored
	fromExclusive
	beforeInclusive
	pageRepeats
	pageByTime
	placeLookedUp
	pageByRank
	deletedListed
	deletedPartsStay
	deletedRemembered
	deletedHolderStays
	deleteUnchecked
	deleteUnknownFine
	deleteBreaksList
	deletedEndsEvents
	deleteUntold
	flaws // how many
)

// bedOf returns a bed on a store that is broken, or not. Without alone its data can be opened several times at once.
func bedOf(f flaw, alone bool) storetest.Bed {
	wrap := func(o *opening) rollingupgrade.Store {
		if alone {
			return exclusive{o}
		}
		return o
	}
	return storetest.Bed{
		New: func() (rollingupgrade.Store, error) { return wrap(newDisk(f).open()), nil },
		Reopen: func(s rollingupgrade.Store) (rollingupgrade.Store, error) {
			if e, ok := s.(exclusive); ok {
				return wrap(e.disk.open()), nil
			}
			return wrap(s.(*opening).disk.open()), nil
		},
		Exclusive: alone,
		Close:     func(rollingupgrade.Store) error { return nil },
		Rows:      1100, Tasks: 520, Events: 300,
	}
}

// TestBrokenStoresFail breaks a store in one way each: the suite must notice, in the cases named and for the right reason.
func TestBrokenStoresFail(t *testing.T) {
	bitten, used := map[string]bool{}, map[flaw]bool{none: true}
	for _, tt := range broken {
		used[tt.flaw] = true
		for name := range tt.must {
			bitten[name] = true
		}
		t.Run(tt.name, func(t *testing.T) {
			bed := bedOf(tt.flaw, tt.alone)
			bed.Told = 200 * time.Millisecond
			if tt.stuck {
				bed.Patience = 200 * time.Millisecond
			}
			for name, text := range tt.must {
				err := caseOf(t, name).Check(t.Context(), bed)
				switch {
				case err == nil:
					t.Errorf("case %q passes", name)
				case !strings.Contains(err.Error(), text):
					t.Errorf("case %q does not say %q:\n%v", name, text, err)
				default:
					t.Logf("%s: %v", name, err)
				}
			}
		})
	}
	for _, c := range storetest.Cases() {
		if !bitten[c.Name] {
			t.Errorf("no broken store fails case %q", c.Name)
		}
	}
	for f := range flaws {
		if !used[f] {
			t.Errorf("flaw number %d is not used", f)
		}
	}
}

func caseOf(t *testing.T, name string) storetest.Case {
	t.Helper()
	for _, c := range storetest.Cases() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no case %q", name)
	return storetest.Case{}
}
