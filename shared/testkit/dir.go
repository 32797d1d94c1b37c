package testkit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ServerDir names the folder for the data of a server that belongs to key, usually the absolute path of a working
// copy. It lies in the machine's folder for temporary files, since a working copy may be in a home that the user
// postgres cannot enter; user and key are part of the name, so that two copies, or two people, never share one.
func ServerDir(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(commonTemp(), "souk-"+strconv.Itoa(os.Geteuid())+"-"+hex.EncodeToString(sum[:6]))
}

// temporaryDir makes an empty folder that other users may pass through.
func temporaryDir(prefix string) (string, error) {
	dir, err := os.MkdirTemp(commonTemp(), prefix)
	if err != nil {
		return "", fmt.Errorf("make a folder for a server: %w", err)
	}
	return dir, nil
}

// commonTemp is os.TempDir, or /tmp when root's own is closed to other users.
func commonTemp() string {
	dir := os.TempDir()
	if os.Geteuid() != 0 {
		return dir
	}
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return "/tmp"
		}
		if d == filepath.Dir(d) {
			return dir
		}
	}
}

// ownDir makes dir, or takes the one that is there, for account's use only. A folder of somebody else's is refused:
// in a shared folder for temporary files anyone may have made it first.
func ownDir(dir string, account *syscall.Credential) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a folder for a server: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at the folder of a server: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	ours := int(owner.Uid) == os.Geteuid()
	if account != nil {
		ours = ours || owner.Uid == account.Uid
	}
	if !ours {
		return fmt.Errorf("%s belongs to somebody else", dir)
	}
	if account == nil {
		return nil
	}
	if err := os.Chown(dir, int(account.Uid), int(account.Gid)); err != nil {
		return fmt.Errorf("hand a folder to its server: %w", err)
	}
	return nil
}
