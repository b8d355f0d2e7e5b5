package hostif

import (
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"golang.org/x/sys/unix"
)

const flowPrefix = "flow-"

// flowRecord tells of one rule.
type flowRecord struct {
	Boot      string
	Namespace uint64 // of the network, see namespaceCookie
	Index     int
	Rule      []byte // a flowRule, with its location if that was known; nothing before
	Told      bool   // the driver has told Rule as it was given
}

// HeldFlow is a rule of a device.
type HeldFlow struct {
	Location uint32 // as ethtool -n tells it
	record   *record
	undo     func() error
}

// Remove removes the rule, in the namespace AddFlow was called in, if it is still
// there. It is idempotent and safe for concurrent use.
func (h *HeldFlow) Remove() error { return h.undo() }

// AddFlow has a device send a flow's packets to one of its receive queues, and reads
// back that it does. It is RestoreSettings, too. Until Remove it holds two file
// descriptors. If the process ends without it, the next RestoreSettings does it.
//
// errors.Is(err, errors.ErrUnsupported) holds where the driver has no rules, or none
// like this, or they are switched off; unix.EEXIST if there is one for the same
// packets, unix.EBUSY if that is afxnet's, unix.ENOSPC if there is no room; and
// os.ErrPermission without CAP_NET_ADMIN, or if the record cannot be written below
// /run/afxnet.
func AddFlow(index int, f Flow, queue uint32) (*HeldFlow, error) {
	h, err := settings.addFlow(index, f, queue)
	if err != nil {
		return nil, flowError(index, err)
	}
	return h, nil
}

func flowError(index int, err error) error {
	return fmt.Errorf("hostif: flow rules of interface index %d: %w", index, err)
}

func (k keeper) addFlow(index int, f Flow, queue uint32) (_ *HeldFlow, err error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	tool, err := k.flows()
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*HeldFlow, error) {
		tool.close()
		return nil, err
	}
	namespace, err := namespaceCookie()
	if err != nil {
		return fail(err)
	}
	name, err := tool.name(index)
	if err != nil {
		return fail(err)
	}
	// First what has no record: most devices end here.
	if _, _, err := readRules(tool, name); err != nil {
		return fail(noRules(err))
	}
	if on, available, err := tool.filtering(name); err == nil && !on && available {
		return fail(fmt.Errorf("they are switched off (ethtool -K %s ntuple on): %w", name, errors.ErrUnsupported))
	}
	rule := newFlowRule(f, queue)
	hash := fnv.New64a()
	hash.Write(rule.match())
	recordName := fmt.Sprintf("%s%d-%d-%x", flowPrefix, namespace, index, hash.Sum64())
	end, err := k.begin(recordName)
	if err != nil {
		return fail(err)
	}
	defer end()
	rec, err := k.dir.lock(recordName)
	if err != nil {
		return fail(err)
	}
	about := flowRecord{Boot: bootID(), Namespace: namespace, Index: index}
	if err := insertRule(tool, name, &rule, rec, &about); err != nil {
		return fail(errors.Join(err, rec.end(undoFlow(tool, &about))))
	}
	return &HeldFlow{Location: rule.location(), record: rec, undo: sync.OnceValue(func() error {
		defer tool.close()
		if err := k.finish(rec, func() (bool, error) { return undoFlow(tool, &about) }); err != nil {
			return flowError(index, err)
		}
		return nil
	})}, nil
}

// noRules says what it means that a driver does not tell its rules.
func noRules(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the driver has none: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// insertRule gives the rule a location, has it recorded, inserted and read back.
// From then on, about tells of it, unless the driver refused it.
func insertRule(tool flowTool, name string, rule *flowRule, rec *record, about *flowRecord) error {
	rules, size, err := readRules(tool, name)
	if err != nil {
		return noRules(err)
	}
	used := make(map[uint32]bool, len(rules))
	for i := range rules {
		if string(rules[i].match()) == string(rule.match()) {
			return fmt.Errorf("rule %d is for the same packets, to queue %d (ethtool -N %s delete %d): %w",
				rules[i].location(), rules[i].queue(), name, rules[i].location(), unix.EEXIST)
		}
		used[rules[i].location()] = true
	}
	location := locationAny
	if size > 0 {
		// The last is what ethtool takes, too: the first ones come before
		// others that match the same packets.
		at := size - 1
		for at >= 0 && used[uint32(at)] {
			at--
		}
		if at < 0 {
			return fmt.Errorf("all %d are in use: %w", size, unix.ENOSPC)
		}
		location = uint32(at)
	}
	native.PutUint32(rule[flowLocation:], location)
	about.Rule = rule[:]
	if err := rec.write(about); err != nil {
		about.Rule = nil
		return err
	}
	if location, err = changeRules(tool, name, unix.ETHTOOL_SRXCLSRLINS, rule); err != nil {
		about.Rule = nil // what is at its location is somebody else's
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (needs CAP_NET_ADMIN)", err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPROTONOSUPPORT):
		return fmt.Errorf("the driver does not take this one: %w: %w", errors.ErrUnsupported, err)
	case err != nil:
		return err
	}
	native.PutUint32(rule[flowLocation:], location)
	if err := rec.write(about); err != nil {
		return err
	}
	if rules, _, err = readRules(tool, name); err != nil {
		return err
	}
	for i := range rules {
		if rules[i].is(rule) {
			about.Told = true
			return rec.write(about)
		}
	}
	return fmt.Errorf("the driver took this one, and does not tell it as it was given: %w", errors.ErrUnsupported)
}

// undoFlow removes what about tells of. A device that is gone has no rules.
func undoFlow(tool flowTool, about *flowRecord) (done bool, err error) {
	if len(about.Rule) != flowLen {
		return true, nil // it was not recorded, so it was not inserted
	}
	rule := flowRule(about.Rule)
	name, err := tool.name(about.Index)
	var rules []flowRule
	if err == nil {
		rules, _, err = readRules(tool, name)
	}
	for i := range rules {
		// Before it was read back, by its location, too: drivers may tell some of it
		// in another way. Later, another rule there is somebody else's.
		same := !about.Told && rules[i].location() == rule.location() && rules[i].queue() == rule.queue() && rules[i].kind() == rule.kind()
		if err == nil && (same || rules[i].is(&rule)) {
			_, err = changeRules(tool, name, unix.ETHTOOL_SRXCLSRLDEL, &rules[i])
		}
	}
	if errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	return err == nil, err
}

// restoreFlow undoes a dead process's record.
func (k keeper) restoreFlow(rec *record) (done bool, err error) {
	var about flowRecord
	if err := rec.read(&about); err != nil || len(about.Rule) == 0 {
		return err == nil, err
	}
	namespace, err := namespaceCookie()
	if err != nil || namespace != about.Namespace {
		return false, err
	}
	tool, err := k.flows()
	if err != nil {
		return false, err
	}
	defer tool.close()
	return undoFlow(tool, &about)
}
