package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// raceMode says which tests run the program that is built with the race
// detector: those of concurrentTests, "all", or "none". The tests themselves are
// built without it: they are no part of the product, and their 2,000 readers
// would take most of the time.
var raceMode = os.Getenv("IXMAGE_RACE")

// concurrentTests are the tests in which goroutines of the program meet:
// requests for one object, a purge, a change of alias or key, a rotation or the
// end of the process during requests, clients that leave, and refreshes in the
// background. In the other tests one request follows another, so an access that
// no lock orders would not show.
var concurrentTests = []string{
	"TestAgeOfJoined",
	"TestAliasChanges",
	"TestAliasChangesDuringFetch",
	"TestAliasMadeAgain",
	"TestBlocks",
	"TestBlocksLong",
	"TestBlocksThatFail",
	"TestBreaker",
	"TestCacheSuite",
	"TestCanary",
	"TestClientConnections",
	"TestCollectorAway",
	"TestConnectionReuse",
	"TestConsoleAPI",
	"TestCredentialReplacedMidStream",
	"TestCredentialsInACrowd",
	"TestCrowdOfHeads",
	"TestCrowdOfRanges",
	"TestDrainTimeout",
	"TestEventsEndWithServer",
	"TestExplainCircuit",
	"TestExplainOverload",
	"TestFaults",
	"TestFaultyCrowd",
	"TestFollowers",
	"TestHeadOfStale",
	"TestHealthcheck",
	"TestKeyPairReplaced",
	"TestKillDuringWrites",
	"TestLastByteIsWithheld",
	"TestLastReaderLeaves",
	"TestLingerEndsWithTheServer",
	"TestLingerIsBounded",
	"TestNoFinalReply",
	"TestNoSecretLeaves",
	"TestNoSecretLeavesProvisioning",
	"TestOverload",
	"TestPipeline",
	"TestPipelineBreaks",
	"TestProvision",
	"TestProvisionBrokenIAM",
	"TestProvisionLongName",
	"TestPurge",
	"TestPurgeUnderWay",
	"TestQueueTimeout",
	"TestRangeOfLargeObject",
	"TestRangeOfLargeObjectThatChanges",
	"TestRangesInACrowd",
	"TestRefusedRequestsAreLimited",
	"TestRelease",
	"TestReleaseOfStalledClient",
	"TestReleaseOfWaiting",
	"TestReviseDuringFetch",
	"TestReviseDuringOutage",
	"TestReviseStaleIfError",
	"TestReviseStaleWhileRevalidate",
	"TestReviseTTL",
	"TestRoleMinIO",
	"TestRoleMoved",
	"TestRoleRenewals",
	"TestRoleRevoked",
	"TestRoleSTSAway",
	"TestRotateSigningKey",
	"TestRotationUnderLoad",
	"TestSecondSignal",
	"TestServingWithoutIAM",
	"TestSlowReadersOfHits",
	"TestSlowReadersOfMisses",
	"TestSlowReadersOfStreams",
	"TestStaleFaults",
	"TestStaleIsFetchedAgain",
	"TestStaleWhileRevalidate",
	"TestStderrBlocked",
	"TestStrangersEvictNothing",
	"TestStreaming",
	"TestStreamsOutliveTheirKey",
	"TestSurplusAnswers",
	"TestTermAmidNoFinalReply",
	"TestTermEndsEverything",
	"TestTermUnderLoad",
	"TestTracing",
	"TestTrustedProxies",
	"TestUnknownLength",
	"TestUnknownLengthAbandoned",
	"TestUnknownLengthIsShared",
	"TestUnknownLengthTooLarge",
	"TestUsage",
}

// programOf is the binary that a test is to run.
func programOf(t testing.TB) string {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	if raced != "" && (raceMode == "all" || slices.Contains(concurrentTests, name)) {
		return raced
	}
	return plain
}

// TestConcurrentTests checks that each name in concurrentTests is that of a test.
func TestConcurrentTests(t *testing.T) {
	t.Parallel()
	source := ""
	for _, path := range filesIn(t, ".") {
		if strings.HasSuffix(path, "_test.go") {
			source += string(readFile(t, path))
		}
	}
	for _, name := range concurrentTests {
		if !regexp.MustCompile(`(?m)^func ` + name + `\(t \*testing\.T\)`).MatchString(source) {
			t.Errorf("there is no test %s", name)
		}
	}
}
