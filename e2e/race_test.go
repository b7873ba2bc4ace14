package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// concurrentTests are the tests in which goroutines of the program meet:
// requests for one object, a purge, a change of alias or key, a rotation or the
// end of the process during requests, clients that leave, and refreshes in the
// background. In the other tests one request follows another, so an access that
// no lock orders would not show. IXMAGE_RACE, as make test-long sets it, has
// these run, or those that -run names, with a program that is built with the
// race detector; so the list also has those that -short leaves out.
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
	"TestContainerMemory",
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
	"TestFleetBackInTime",
	"TestFleetChaos",
	"TestFollowers",
	"TestHeadOfStale",
	"TestHealthcheck",
	"TestKeyPairReplaced",
	"TestKillDuringWrites",
	"TestLastByteIsWithheld",
	"TestLastReaderLeaves",
	"TestLingerEndsWithTheServer",
	"TestLingerIsBounded",
	"TestManyExpire",
	"TestNoFinalReply",
	"TestNoSecretLeaves",
	"TestNoSecretLeavesProvisioning",
	"TestOverload",
	"TestPipeline",
	"TestPipelineBreaks",
	"TestProvision",
	"TestProvisionBrokenIAM",
	"TestProvisionKilled",
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
	"TestSlowReaders",
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
