package iam

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tagsQuota bounds the tags of a user or policy.
const tagsQuota = 50

type xmlTag struct{ Key, Value string }

// xmlTags are the tags of a user or policy; nil is omitted.
type xmlTags struct {
	Member []xmlTag `xml:"member"`
}

func tagList(tags map[string]string) []xmlTag {
	out := make([]xmlTag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, xmlTag{key, tags[key]})
	}
	return out
}

func ownTags(tags map[string]string) *xmlTags {
	if len(tags) == 0 {
		return nil
	}
	return &xmlTags{tagList(tags)}
}

// tagForm has the characters of keys and values:
// https://docs.aws.amazon.com/IAM/latest/APIReference/API_Tag.html
var tagForm = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// tags are the tags of a request.
func (r *request) tags() (map[string]string, error) {
	out, seen := map[string]string{}, map[string]bool{}
	for i := 1; ; i++ {
		at := "Tags.member." + strconv.Itoa(i)
		key, value := r.params.Get(at+".Key"), r.params.Get(at+".Value")
		if _, ok := r.params[at+".Key"]; !ok {
			return out, nil
		}
		if err := checkTag(key, value); err != nil {
			return nil, err
		}
		if seen[strings.ToLower(key)] {
			return nil, refusal("InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		out[key], seen[strings.ToLower(key)] = value, true
	}
}

// checkTag refuses a tag outside the limits:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules
func checkTag(key, value string) error {
	switch {
	case key == "" || utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value) > 256,
		!tagForm.MatchString(key), !tagForm.MatchString(value):
		return invalid("tags")
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return refusal("InvalidInput", "Tag keys with the prefix aws: are reserved.")
	}
	return nil
}

// keptTags are the tags of a request that creates something.
func (r *request) keptTags() (map[string]string, error) {
	tags, err := r.tags()
	if r.fault.DropTags {
		tags = map[string]string{}
	}
	return tags, err
}

// merged are tags with changes, by keys without regard to case.
func merged(tags, changes map[string]string) map[string]string {
	out := untagged(tags, slices.Collect(maps.Keys(changes)))
	maps.Copy(out, changes)
	return out
}

// untagged are tags without some keys, without regard to case.
func untagged(tags map[string]string, keys []string) map[string]string {
	out := map[string]string{}
	for key, value := range tags {
		if !slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, key) }) {
			out[key] = value
		}
	}
	return out
}

func tagUser(s *Server, r *request) (any, error) {
	tags, err := r.tags()
	if err != nil {
		return nil, err
	}
	if len(tags) == 0 || len(tags) > tagsQuota {
		return nil, invalid("tags")
	}
	return nil, s.changeUser(r, func(_, u *User) error {
		if r.fault.DropTags {
			return nil
		}
		if u.Tags = merged(u.Tags, tags); len(u.Tags) > tagsQuota {
			return limitExceeded("TagsPerUser", tagsQuota)
		}
		return nil
	})
}

func untagUser(s *Server, r *request) (any, error) {
	keys := r.members("TagKeys")
	if len(keys) > tagsQuota {
		return nil, invalid("tagKeys")
	}
	return nil, s.changeUser(r, func(_, u *User) error {
		u.Tags = untagged(u.Tags, keys)
		return nil
	})
}

func listUserTags(s *Server, r *request) (any, error) {
	u, err := s.visibleUser(r)
	if err != nil {
		return nil, err
	}
	return pageOfTags(s, r, u.Tags)
}

func pageOfTags(s *Server, r *request, all map[string]string) (any, error) {
	tags, more, err := page(s, r, tagList(all), func(t xmlTag) string { return t.Key })
	return struct {
		Tags []xmlTag `xml:"Tags>member"`
		xmlPage
	}{tags, more}, err
}
