package cli

import (
	"strings"
	"testing"
)

func TestParseKeyPair(t *testing.T) {
	t.Parallel()
	const ini = "# keys\n[default]\naws_access_key_id=AKIDDEFAULT\naws_secret_access_key=s/default\n\n" +
		"[profile media]\n AWS_Access_Key_Id = AKIDMEDIA \n# aws_secret_access_key = old\naws_secret_access_key = s=media=\nregion = x\n" +
		"[short]\naws_access_key_id = AKIDSHORT\naws_secret_access_key = s\naws_session_token = t\n[half]\naws_access_key_id = AKIDHALF\n"
	for name, row := range map[string]struct{ text, profile, id, secret, wrong string }{
		"default profile": {ini, "", "AKIDDEFAULT", "s/default", ""},
		"another profile": {ini, "media", "AKIDMEDIA", "s=media=", ""},
		"CRLF":            {strings.ReplaceAll(ini, "\n", "\r\n"), "media", "AKIDMEDIA", "s=media=", ""},
		"no such profile": {ini, "shop", "", "", `no profile "shop"; it has default, media, short, half`},
		"temporary":       {ini, "short", "", "", "temporary"},
		"half a profile":  {ini, "half", "", "", "no aws_secret_access_key"},
		"create-access-key": {`{"AccessKey":{"UserName":"x","AccessKeyId":"AKIDJSON","Status":"Active","SecretAccessKey":"s"}}`, "",
			"AKIDJSON", "s", ""},
		"members of the API": {`{"access_key_id":"AKIDAPI","secret_access_key":"s"}`, "", "AKIDAPI", "s", ""},
		"other JSON":         {`{"x":1}`, "", "", "", "no AccessKey.AccessKeyId"},
		"half JSON":          {`{"AccessKey":{"AccessKeyId":"AKID"}}`, "", "", "", "no AccessKey.SecretAccessKey"},
		"broken JSON":        {`{"AccessKey":{"SecretAccessKey":"canary`, "", "", "", "not valid JSON"},
		"profile of JSON":    {`{"access_key_id":"A","secret_access_key":"s"}`, "media", "", "", "leave out --profile"},
		"CSV":                {"\ufeffAccess key ID,Secret access key\r\nAKIDCSV,s/csv\r\n", "", "AKIDCSV", "s/csv", ""},
		"old CSV":            {"User name,Password,Access key ID,Secret access key,Console login link\nx,,AKIDOLD,s,\n", "", "AKIDOLD", "s", ""},
		"two in CSV":         {"Access key ID,Secret access key\nA,b\nC,d\n", "", "", "", "does not have one key pair"},
		"uneven CSV":         {"Access key ID,Secret access key\nA\n", "", "", "", "does not have one key pair"},
		"text":               {"canary-secret", "", "", "", "neither an AWS credentials file"},
		"nothing":            {" \n", "", "", "", "it is empty"},
	} {
		p, err := parseKeyPair([]byte(row.text), row.profile)
		if row.wrong == "" {
			if err != nil || p.id != row.id || p.secret.Reveal() != row.secret {
				t.Errorf("%s: %s, %d bytes of secret, %v", name, p.id, len(p.secret.Reveal()), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), row.wrong) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q and nothing of the file", name, err, row.wrong)
		}
	}
}

// FuzzParseKeyPair: a file gives a whole key pair or an error, which does not quote it.
func FuzzParseKeyPair(f *testing.F) {
	f.Add("[a]\naws_access_key_id = x\naws_secret_access_key = canarysecret\n", "a")
	f.Add(`{"access_key_id":"A","secret_access_key":"canarysecret"}`, "")
	f.Add("Access key ID,Secret access key\nA,canarysecret\n", "")
	f.Add("[]\n=\n", "")
	f.Fuzz(func(t *testing.T, text, profile string) {
		p, err := parseKeyPair([]byte(text), profile)
		if err == nil && (p.id == "" || p.secret.IsZero()) {
			t.Errorf("half a key pair: %q", p.id)
		}
		if err != nil && !strings.Contains(profile, "canarysecret") && !strings.Contains(text, "[") && strings.Contains(err.Error(), "canarysecret") {
			t.Errorf("the error quotes the file: %v", err)
		}
	})
}
