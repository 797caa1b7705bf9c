package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt follows the numbers in its pages without looking where they lead: with a damaged file that ends in faults, or in memory that
// belongs to others. So before bbolt gets to see a file, verify walks its pages by reading, as bbolt will by pointers. What
// the numbers are is fixed by bbolt's file format, version 2; they are in the machine's byte order.

const (
	pageHeader  = 16 // id 8, flags 2, count 2, overflow 4
	elementSize = 16 // branch: pos 4, ksize 4, pgid 8; leaf: flags 4, pos 4, ksize 4, vsize 4
	metaSize    = 64
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element

	maxDepth = 100
)

var machine = binary.NativeEndian

// A verifier walks the pages of one file.
type verifier struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64 // the number of pages in use, free ones included
	seen     []bool
}

// verify returns ErrCorrupt if the pages of a file are not in order. An empty file is.
func verify(r io.ReaderAt, size int64) error {
	if size == 0 {
		return nil
	}
	v := &verifier{r: r, size: size}
	root, freelist, err := v.meta()
	if err == nil {
		err = v.free(freelist)
	}
	if err == nil {
		err = v.page(root, nil, 0)
	}
	return err
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// meta finds the newer one of the two meta pages that are whole.
func (v *verifier) meta() (root, freelist uint64, err error) {
	read := func(at int64) (m []byte, ok bool) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := v.r.ReadAt(b, at); err != nil {
			return nil, false
		}
		m = b[pageHeader:]
		h := fnv.New64a()
		_, _ = h.Write(m[:metaSize-8])
		return m, machine.Uint32(m) == boltMagic && machine.Uint32(m[4:]) == boltVersion && machine.Uint64(m[metaSize-8:]) == h.Sum64()
	}
	best, ok := read(0)
	if ok {
		v.pageSize = int64(machine.Uint32(best[8:]))
	}
	for n := int64(1024); n <= 1024<<14; n *= 2 {
		if ok && n != v.pageSize {
			continue
		}
		m, whole := read(n)
		if whole && int64(machine.Uint32(m[8:])) == n {
			if !ok || machine.Uint64(m[48:]) > machine.Uint64(best[48:]) {
				best, ok = m, true
			}
			v.pageSize = n
			break
		}
	}
	if !ok || v.pageSize < 1024 {
		return 0, 0, corrupt("it has no whole meta page")
	}
	root, freelist, v.pages = machine.Uint64(best[16:]), machine.Uint64(best[32:]), machine.Uint64(best[40:])
	if v.pages < 4 || v.pages > uint64(v.size/v.pageSize) {
		return 0, 0, corrupt("it has %d bytes, of %d pages of %d bytes", v.size, v.pages, v.pageSize)
	}
	v.seen = make([]bool, v.pages)
	v.seen[0], v.seen[1] = true, true
	return root, freelist, nil
}

// read returns a page with its overflow.
func (v *verifier) read(id uint64) ([]byte, error) {
	if id >= v.pages {
		return nil, corrupt("page %d of %d", id, v.pages)
	}
	b := make([]byte, v.pageSize)
	if _, err := v.r.ReadAt(b, int64(id)*v.pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	n := uint64(machine.Uint32(b[12:])) + 1
	if machine.Uint64(b) != id || id+n > v.pages {
		return nil, corrupt("page %d says that it is page %d, with %d more", id, machine.Uint64(b), n-1)
	}
	for k := id; k < id+n; k++ {
		if v.seen[k] {
			return nil, corrupt("page %d is used twice", k)
		}
		v.seen[k] = true
	}
	if n > 1 {
		b = append(b, make([]byte, int64(n-1)*v.pageSize)...)
		if _, err := v.r.ReadAt(b, int64(id)*v.pageSize); err != nil {
			return nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return b, nil
}

// free walks the list of free pages.
func (v *verifier) free(id uint64) error {
	if id == noFreelist {
		return nil
	}
	b, err := v.read(id)
	if err != nil {
		return err
	}
	if machine.Uint16(b[8:]) != flagFreelist {
		return corrupt("page %d is no list of free pages", id)
	}
	count, at := uint64(machine.Uint16(b[10:])), uint64(pageHeader)
	if count == 0xFFFF {
		count, at = machine.Uint64(b[pageHeader:]), at+8
	}
	if count > (uint64(len(b))-at)/8 {
		return corrupt("the list of free pages has %d entries", count)
	}
	for last := uint64(1); count > 0; count, at = count-1, at+8 {
		free := machine.Uint64(b[at:])
		if free <= last || free >= v.pages || v.seen[free] {
			return corrupt("page %d is in the list of free pages", free)
		}
		last, v.seen[free] = free, true
	}
	return nil
}

// page walks a page of a bucket and what is below it. Its keys begin with least.
func (v *verifier) page(id uint64, least []byte, depth int) error {
	b, err := v.read(id)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return corrupt("page %d is too deep", id)
	}
	return v.elements(b, fmt.Sprintf("page %d", id), least, depth)
}

// elements walks the elements of a page, or of one that is kept within a value.
func (v *verifier) elements(b []byte, name string, least []byte, depth int) error {
	flags, count := machine.Uint16(b[8:]), int(machine.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf || pageHeader+count*elementSize > len(b) || flags == flagBranch && count == 0 {
		return corrupt("%s has flags %#x and %d elements", name, flags, count)
	}
	end := uint64(pageHeader + count*elementSize) // keys and values follow each other behind the elements
	for n := range count {
		start := uint64(pageHeader + n*elementSize)
		e := b[start:]
		var at, keySize, valueSize uint64
		if flags == flagBranch {
			at, keySize = start+uint64(machine.Uint32(e)), uint64(machine.Uint32(e[4:]))
		} else {
			at, keySize, valueSize = start+uint64(machine.Uint32(e[4:])), uint64(machine.Uint32(e[8:])), uint64(machine.Uint32(e[12:]))
		}
		if at < end || at+keySize+valueSize > uint64(len(b)) || keySize == 0 {
			return corrupt("%s, element %d: %d and %d bytes at %d of %d", name, n, keySize, valueSize, at, len(b))
		}
		key, value := b[at:at+keySize], b[at+keySize:at+keySize+valueSize]
		end = at + keySize + valueSize
		if c := bytes.Compare(key, least); c < 0 || c == 0 && n > 0 {
			return corrupt("%s, element %d: the keys are not in order", name, n)
		}
		least = key
		var err error
		switch {
		case flags == flagBranch:
			err = v.page(machine.Uint64(e[8:]), key, depth+1)
		case machine.Uint32(e) == flagBucket:
			err = v.bucket(value, fmt.Sprintf("%s, element %d", name, n), depth)
		case machine.Uint32(e) != 0:
			err = corrupt("%s, element %d has flags %#x", name, n, machine.Uint32(e))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket walks a bucket within a bucket: its root is a page or, if it is small, behind its header.
func (v *verifier) bucket(value []byte, name string, depth int) error {
	if len(value) < 16 {
		return corrupt("%s is a bucket of %d bytes", name, len(value))
	}
	if root := machine.Uint64(value); root != 0 {
		return v.page(root, nil, depth+1)
	}
	inline := value[16:]
	if len(inline) < pageHeader || machine.Uint16(inline[8:]) != flagLeaf {
		return corrupt("%s is a bucket with %d bytes in it", name, len(inline))
	}
	return v.elements(inline, name, nil, depth+1)
}
