package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// keyring holds the keys that Debian signs its archive with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// archives are where packages come from, tried in this order.
var archives = []string{"http://deb.debian.org/debian"}

// suites are the releases that a package may come from. bookworm has Linux 6.1,
// trixie 6.12 and QEMU 10, trixie-backports all kernels since.
var suites = []string{"bookworm", "trixie", "trixie-backports"}

// emulatorSuite is the suite whose QEMU is taken. That of trixie, 10.0, loses a
// timer interrupt now and then when the computer is busy.
const emulatorSuite = "trixie-backports"

// apt is a view of an archive that shares nothing with the machine's own: apt
// believes that no package is installed.
type apt struct {
	dir   string
	args  []string
	pause time.Duration // firstPause
}

// attempts is how often apt-get is run that fails: an archive may be out of reach for
// some seconds, or about to change. firstPause is the first pause between, and each
// is twice the one before.
const (
	attempts   = 4
	firstPause = 5 * time.Second
)

// newAPT reads the lists of an archive into dir, which it makes.
func newAPT(ctx context.Context, dir, archive string) (*apt, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("vmtest: kernels come as Debian packages: %w", err)
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		return nil, fmt.Errorf("vmtest: the archive's keys are not there (apt-get install debian-archive-keyring): %w", err)
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	var sources strings.Builder
	for _, s := range suites {
		fmt.Fprintf(&sources, "deb [signed-by=%s] %s %s main\n", keyring, archive, s)
	}
	list, status := filepath.Join(dir, "sources.list"), filepath.Join(dir, "status")
	if err := errors.Join(os.WriteFile(list, []byte(sources.String()), 0o644), os.WriteFile(status, nil, 0o644)); err != nil {
		return nil, err
	}
	v := &apt{dir: dir, pause: firstPause, args: []string{
		"-qq",
		"-o", "Dir::Etc::sourcelist=" + list,
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State=" + dir,
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "APT::Architecture=amd64",
		"-o", "APT::Architectures=amd64",
		"-o", "APT::Sandbox::User=", // or it could not write here
		"-o", "APT::Install-Recommends=false",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=2",
		"-o", "Debug::NoLocking=1",
	}}
	if _, err := v.run(ctx, "apt-get", "update", "--error-on=any"); err != nil {
		return nil, fmt.Errorf("vmtest: read the lists of %s: %w", archive, err)
	}
	return v, nil
}

// packages returns the names of all packages.
func (v *apt) packages(ctx context.Context) ([]string, error) {
	out, err := v.run(ctx, "apt-cache", "pkgnames")
	return strings.Fields(out), err
}

// unpack fetches packages and unpacks them into root.
func (v *apt) unpack(ctx context.Context, root string, packages ...string) error {
	_, err := v.run(ctx, "apt-get", append([]string{"download"}, packages...)...)
	if err != nil {
		return fmt.Errorf("vmtest: fetch %v: %w", packages, err)
	}
	return v.unpackFrom(ctx, v.dir, root)
}

// unpackAll does so with all packages that the named one depends on, too, if
// possible from emulatorSuite.
func (v *apt) unpackAll(ctx context.Context, root, name string) error {
	if _, err := v.run(ctx, "apt-get", "install", "-y", "--download-only", "-t", emulatorSuite, name); err != nil {
		return fmt.Errorf("vmtest: fetch %s and what it needs: %w", name, err)
	}
	return v.unpackFrom(ctx, filepath.Join(v.dir, "cache/archives"), root)
}

func (v *apt) unpackFrom(ctx context.Context, dir, root string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := v.run(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program of the apt family, apt-get several times if it has to, and
// returns what it prints; its complaints become the error.
func (v *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	for attempt, pause := 1, v.pause; ; attempt, pause = attempt+1, 2*pause {
		out, err := v.runOnce(ctx, name, args...)
		if err == nil || name != "apt-get" || attempt == attempts {
			return out, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", err
		}
	}
}

func (v *apt) runOnce(ctx context.Context, name string, args ...string) (string, error) {
	if name != "dpkg-deb" {
		args = append(v.args[:len(v.args):len(v.args)], args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = v.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
