package cli

import (
	"ixmage/alias/datadir"
	"ixmage/alias/seal"
)

type restoreCmd struct {
	File      string `arg:"" help:"File that ixmage backup has made." completion:"files"`
	Data      string `required:"" help:"Data folder of the server, which must be stopped. It is made if the key set is elsewhere." placeholder:"DIR"`
	MasterKey string `help:"Key set that sealed the backup: file:PATH or aws-kms://ARN. Default: master.keyset in the data folder." placeholder:"KEY"`
}

func (*restoreCmd) Examples() []string {
	return []string{"ixmage restore registry-backup.db --data /var/lib/ixmage"}
}

func (c *restoreCmd) Run(s *session) error {
	if err := seal.ValidateMaster(c.MasterKey); err != nil {
		return usagef("--master-key: %v", err)
	}
	done, err := datadir.Restore(s.ctx, datadir.RestoreSpec{File: c.File, Dir: c.Data, Master: c.MasterKey})
	if err != nil {
		return err
	}
	s.term.sayf("%s is restored to %s. Aliases: %d, credentials: %d.",
		c.File, datadir.RegistryPath(c.Data), done.Aliases, done.Credentials)
	if done.Before != "" {
		s.term.sayf("The registry that was there is kept in %s.", done.Before)
	}
	s.term.sayf("The disk cache is emptied at the next start. " +
		"Admin tokens and key pairs that were removed since the backup are back: remove them again.")
	if done.Provisioned > 0 {
		s.term.sayf("Credentials with IAM users: %d. If the key of one was rotated since the backup, "+
			"reconcile finds that and changes nothing of the user: see ixmage orphans ls, and reclaim it.", done.Provisioned)
	}
	return nil
}

type rekeyCmd struct {
	Data         string `required:"" help:"Data folder of the server, which must be stopped." placeholder:"DIR"`
	MasterKey    string `help:"Key set in use: file:PATH or aws-kms://ARN. Default: master.keyset in the data folder." placeholder:"KEY"`
	NewMasterKey string `help:"Place of the new key set, in the same forms; no file may be there. Default: the place of the one in use, which gets a new key." placeholder:"KEY"`
}

func (*rekeyCmd) Examples() []string {
	return []string{
		"ixmage rekey --data /var/lib/ixmage",
		"ixmage rekey --data /var/lib/ixmage --new-master-key file:/etc/ixmage/master.keyset",
	}
}

func (c *rekeyCmd) Run(s *session) error {
	for flag, master := range map[string]string{"--master-key": c.MasterKey, "--new-master-key": c.NewMasterKey} {
		if err := seal.ValidateMaster(master); err != nil {
			return usagef("%s: %v", flag, err)
		}
	}
	if c.NewMasterKey == "" {
		c.NewMasterKey = c.MasterKey
	}
	done, err := datadir.Rekey(s.ctx, datadir.RekeySpec{Dir: c.Data, Master: c.MasterKey, NewMaster: c.NewMasterKey})
	if err != nil {
		return err
	}
	s.term.sayf("Secrets sealed with a new key: %d. Its key set has the fingerprint %s and is in %s.",
		done.Sealed, done.Fingerprint, done.Place)
	if c.NewMasterKey != c.MasterKey {
		s.term.sayf("Start the server with --master-key %s: the old key set does not open the registry any more.",
			c.NewMasterKey)
	}
	if done.Before != "" {
		s.term.sayf("The old key set is kept in %s. Backups from before need it or the new one, which has its key too.",
			done.Before)
	}
	return nil
}
