package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/postgres"
	"ixmage/internal/awstest/s3"
)

// TestFleetBackInTime: PostgreSQL is restored from a backup of before changes, purges and a
// rotation, as after a failover that loses commits. Nodes that run, and one that is started
// afterwards, say so, have what the backup has, and serve nothing from before a purge that is
// lost or that comes later. The user in IAM is not touched until it is reclaimed.
func TestFleetBackInTime(t *testing.T) {
	t.Parallel()
	skipShort(t)
	db, account := postgres.Start(t, postgres.Options{}), iam.New(t, iam.Config{})
	account.CreateBucket("prov-media")
	for _, key := range []string{"web/p.png", "private/p.png"} {
		account.PutObject("prov-media", key, s3.Object{Body: png(2000, key), ContentType: "image/png"})
	}
	v := &scripted{newFleet(t, db.Database(t), nil, slices.Concat(quickWaits, fleetDisk, []string{
		"--provision", "--iam-endpoint", account.URL, "--provision-buckets", "prov-*",
	})...), s3.New(t)}
	for _, name := range abc {
		n := v.add(name)
		n.env = []string{"AWS_ACCESS_KEY_ID=" + account.Root.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + account.Root.SecretAccessKey.Reveal()}
		n.start()
	}
	a, b, c := v.nodes[0], v.nodes[1], v.nodes[2]
	v.CreateBucket("media", "")
	v.open(a, "shop")
	a.operateWell(http.MethodPost, "/api/v1/provision", map[string]any{
		"alias": "prov", "bucket": "prov-media", "prefix": "web/", "region": "us-east-1", "endpoint": account.S3URL, "path_style": true,
		"probe": map[string]any{"inside": "web/p.png", "outside": "private/p.png"},
	})
	picture := func(version string) []byte { return png(3000, version) }
	fetch := func(body []byte) {
		t.Helper()
		for _, n := range v.nodes {
			for range 2 {
				n.serves("/shop/a.png", body)
			}
		}
	}
	hard := func(n *node, body []byte) {
		t.Helper()
		v.put("a.png", body)
		got, ok := n.purge(map[string]any{"alias": "shop", "hard": true}, "Prefer", "wait=60")
		if !ok {
			t.Fatal("not purged")
		}
		wantNodes(t, got, abc, []string{})
	}
	v.put("a.png", picture("1"))
	fetch(picture("1"))
	v.caughtUp(v.nodes...)

	stop := func() {
		t.Helper()
		if err := db.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	backup := db.Backup(t)
	db.Restart(t)
	v.caughtUp(v.nodes...)
	v.open(b, "later")
	hard(b, picture("2")) // the cache has objects of an epoch that the backup does not know
	fetch(picture("2"))
	b.operateWell(http.MethodPost, "/api/v1/credentials/prov/rotate", nil)
	v.caughtUp(v.nodes...)
	c.kill()
	stop()
	db.Restore(t, backup)
	v.put("a.png", picture("3")) // a purge of it is lost, or was never asked for
	db.Restart(t)
	c.start()
	for _, n := range v.nodes {
		eventually(t, "node "+n.name+" is where the backup is", func() bool {
			status, _, _ := n.picture("/later/a.png")
			return status == http.StatusNotFound
		})
		n.shows("/shop/a.png", picture("3"))
		n.says("all cached objects are dropped")
	}
	v.caughtUp(v.nodes...)

	hard(a, picture("4")) // to the epoch from before
	fetch(picture("4"))
	if status, text := b.change("shop", 3*time.Hour); status != http.StatusOK {
		t.Errorf("a change after it: %d %s", status, text)
	}
	// The key of the backup is the one from before the rotation, which is deleted by now.
	r := a.api(http.MethodPost, "/api/v1/credentials/prov/rotate", nil, "Prefer", "wait=60")
	op := parseOperation(t, r.body)
	if op.State != "failed" || op.Error.Code != "generation" {
		t.Errorf("rotation by the registry of the backup: %s, %+v", op.State, op.Error)
	}
	if status, text := b.try(http.MethodPost, "/api/v1/credentials/prov/reclaim", nil); status != http.StatusOK {
		t.Errorf("reclaim: %d %s", status, text)
	}
	// The key of the rotation that the backup does not know is one that nobody here has made: it is
	// not deleted unseen. When an operator has done that, a rotation brings the alias back.
	op = c.operate(http.MethodPost, "/api/v1/credentials/prov/rotate", nil)
	if op.State != "failed" || op.Error.Code != "unknown-keys" {
		t.Errorf("rotation after it was reclaimed: %s, %+v", op.State, op.Error)
	}
	account.RemoveKey(account.Keys(account.Users()[0].Name)[0].ID)
	c.operateWell(http.MethodPost, "/api/v1/credentials/prov/rotate", nil)
	for _, n := range v.nodes {
		n.shows("/prov/p.png", png(2000, "web/p.png"))
		if strings.Contains(n.history(), "panic") {
			t.Errorf("node %s: %s", n.name, lineOf(n.history(), "panic"))
		}
	}
}
