package cli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"ixmage/alias"
	"ixmage/alias/client"
)

// keyPairFlags say where a key pair is read from. The secret is never an argument: other
// users of the machine see those.
type keyPairFlags struct {
	KeyFile string `name:"key-file" help:"File with the key pair: an AWS credentials file, the JSON of aws iam create-access-key, or the CSV of the AWS console; - is standard input. Without it you are asked." placeholder:"FILE" xor:"keyfile"`
	Profile string `help:"Profile in an AWS credentials file. Default: default." placeholder:"NAME"`
	Expect  string `help:"What the key may do beyond its aliases: read-only-access, for AmazonS3ReadOnlyAccess." placeholder:"POLICY"`
}

// keyPair is a key pair that was read.
type keyPair struct {
	id     string
	secret alias.Secret
}

// read returns the members of a request.
func (f *keyPairFlags) read(s *session) (map[string]any, error) {
	pair, err := f.pair(s)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"access_key_id": pair.id, "secret_access_key": pair.secret.Reveal()}
	if f.Expect != "" {
		body["expect"] = f.Expect
	}
	return body, nil
}

func (f *keyPairFlags) pair(s *session) (keyPair, error) {
	if f.KeyFile != "" {
		return f.file(s)
	}
	if f.Profile != "" {
		return keyPair{}, usagef("--profile belongs to --key-file")
	}
	if !s.term.asks {
		return keyPair{}, usagef("there is no key pair, and standard input or standard error is no terminal, " +
			"so it cannot be asked for: " +
			"name a file with --key-file, or - for standard input")
	}
	id, err := s.term.ask("Access key id: ")
	if err != nil {
		return keyPair{}, err
	}
	secret, err := s.term.askSecret("Secret access key (not shown): ")
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{id, secret}, nil
}

// maxKeyFile bounds a file with a key pair; a credentials file with 100 profiles has
// 15 KiB.
const maxKeyFile = 1 << 20

func (f *keyPairFlags) file(s *session) (keyPair, error) {
	pair, err := readKeyFile(f.KeyFile, f.Profile, s.term.in)
	if err != nil {
		return keyPair{}, usagef("--key-file: %v", err)
	}
	return pair, nil
}

// readKeyFile reads a file with a key pair; - is stdin.
func readKeyFile(path, profile string, stdin io.Reader) (keyPair, error) {
	from, name := stdin, "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return keyPair{}, err
		}
		defer file.Close()
		from, name = file, path
	}
	text, err := io.ReadAll(io.LimitReader(from, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	if err != nil {
		return keyPair{}, fmt.Errorf("read %s: %w", name, err)
	}
	pair, err := parseKeyPair(text, profile)
	if err != nil {
		return keyPair{}, fmt.Errorf("%s: %w", name, err)
	}
	return pair, nil
}

// parseKeyPair reads one of the forms of a key pair. An error quotes nothing of the file,
// which has a secret.
func parseKeyPair(text []byte, profile string) (keyPair, error) {
	text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
	var p keyPair
	var err error
	switch head, _, _ := bytes.Cut(text, []byte("\n")); {
	case len(text) == 0:
		return p, errors.New("it is empty")
	case text[0] == '{':
		p, err = parseKeyJSON(text)
	case bytes.Contains(head, []byte("Access key ID")):
		p, err = parseKeyCSV(text)
	default:
		return parseProfile(string(text), profile)
	}
	if err == nil && profile != "" {
		err = errors.New("it has no profiles: leave out --profile")
	}
	return p, err
}

// parseKeyJSON reads the answer of aws iam create-access-key, or the members of the API.
func parseKeyJSON(text []byte) (keyPair, error) {
	v, err := client.Decode(text)
	if err != nil {
		return keyPair{}, errors.New("it begins like JSON and is not valid JSON")
	}
	if id, secret := v.Get("access_key_id").Text(), v.Get("secret_access_key").Text(); id != "" || secret != "" {
		return pairOf(id, secret, "access_key_id", "secret_access_key")
	}
	const id, secret = "AccessKeyId", "SecretAccessKey"
	made := v.Get("AccessKey")
	return pairOf(made.Get(id).Text(), made.Get(secret).Text(), "AccessKey."+id, "AccessKey."+secret)
}

// parseKeyCSV reads the file that the AWS console offers for download.
func parseKeyCSV(text []byte) (keyPair, error) {
	const idColumn, secretColumn = "Access key ID", "Secret access key"
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 2 {
		return keyPair{}, errors.New("it begins like the CSV of the AWS console and does not have one key pair")
	}
	cells := map[string]string{}
	for i, head := range rows[0] {
		cells[strings.TrimSpace(head)] = strings.TrimSpace(rows[1][i])
	}
	return pairOf(cells[idColumn], cells[secretColumn], idColumn, secretColumn)
}

// parseProfile reads an AWS credentials file.
func parseProfile(text, profile string) (keyPair, error) {
	if profile == "" {
		profile = "default"
	}
	const id, secret = "aws_access_key_id", "aws_secret_access_key"
	names, profiles := sections(text)
	values, found := profiles[profile]
	switch {
	case len(names) == 0:
		return keyPair{}, errors.New("it is neither an AWS credentials file, which has lines like [default], " +
			"nor the JSON of aws iam create-access-key, nor the CSV of the AWS console")
	case !found:
		return keyPair{}, fmt.Errorf("it has no profile %q; it has %s", profile, strings.Join(names, ", "))
	case values["aws_session_token"] != "":
		return keyPair{}, fmt.Errorf("the profile %q has a session token: its keys are temporary, "+
			"and ixmage needs a lasting key pair", profile)
	}
	return pairOf(values[id], values[secret], id, secret)
}

// sections reads an INI file: the names of its sections in their order, and their values.
func sections(text string) (names []string, values map[string]map[string]string) {
	values = map[string]map[string]string{}
	current := map[string]string{} // before the first section
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if head, _, ok := strings.Cut(line, "]"); ok && strings.HasPrefix(line, "[") {
			name := strings.TrimSpace(head[1:])
			name = strings.TrimSpace(strings.TrimPrefix(name, "profile ")) // as in the file config
			names = append(names, name)
			if values[name] == nil {
				values[name] = map[string]string{}
			}
			current = values[name]
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok && line[0] != '#' && line[0] != ';' {
			current[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
		}
	}
	return names, values
}

func pairOf(id, secret, idName, secretName string) (keyPair, error) {
	switch {
	case id == "":
		return keyPair{}, fmt.Errorf("it has no %s", idName)
	case secret == "":
		return keyPair{}, fmt.Errorf("it has no %s", secretName)
	}
	return keyPair{id, alias.NewSecret(secret)}, nil
}
