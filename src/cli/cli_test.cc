// Arguments, help, completion, tables and words: what needs no node.
#include <gtest/gtest.h>

#include "cli/completion.h"
#include "cli/installation.h"
#include "cli/parse.h"
#include "cli/table.h"
#include "cli/trace_text.h"
#include "cli/verbs.h"
#include "cli/words.h"

namespace loam::cli {
namespace {

using Words = std::vector<std::string>;

Parsed parse(const Words& words) { return parse_arguments(all_verbs(), words); }

TEST(Parse, OptionsPositionalsAndShortForms) {
  const Parsed up = parse({"up", "-f", "x/loam.yaml", "--force"});
  ASSERT_NE(up.verb, nullptr) << up.text;
  EXPECT_EQ(up.verb->name, "up");
  EXPECT_EQ(up.arguments.value("file"), "x/loam.yaml");
  EXPECT_TRUE(up.arguments.flag("force"));
  EXPECT_FALSE(up.arguments.flag("detach"));

  const Parsed cancel = parse({"cancel", "17", "18/train"});
  EXPECT_EQ(cancel.arguments.list("TARGET"), (Words{"17", "18/train"}));
  const Parsed files = parse({"files", "17", "a.txt", "-o", "b"});
  ASSERT_NE(files.verb, nullptr) << files.text;
  EXPECT_EQ(files.arguments.value("PATH"), "a.txt");
  const Parsed logs = parse({"logs", "--tail", "5", "-f", "17"});
  EXPECT_EQ(logs.arguments.value("tail"), "5");
  EXPECT_TRUE(logs.arguments.flag("follow"));
  EXPECT_EQ(logs.arguments.value("TARGET"), "17");
  const Parsed show = parse({"models", "show", "digits@3", "--json"});
  ASSERT_NE(show.verb, nullptr) << show.text;
  EXPECT_EQ(show.arguments.value("NAME[@N]"), "digits@3");
}

TEST(Parse, ACommandKeepsItsOwnOptions) {
  for (const Words& words :
       {Words{"run", "-it", "--cpus", "2", "-e", "A=b", "--set", "C=d", "--", "sh", "-c", "x", "--",
              "-i"},
        Words{"run", "-it", "--cpus=2", "-eA=b", "-e", "C=d", "sh", "-c", "x", "--", "-i"}}) {
    const Parsed run = parse(words);
    ASSERT_NE(run.verb, nullptr) << run.text;
    EXPECT_TRUE(run.arguments.flag("input") && run.arguments.flag("terminal"));
    EXPECT_EQ(run.arguments.value("cpus"), "2");
    EXPECT_EQ(run.arguments.list("set"), (Words{"A=b", "C=d"}));
    EXPECT_EQ(run.arguments.command, (Words{"sh", "-c", "x", "--", "-i"}));
  }
  const Parsed bare = parse({"run", "-i", "sh", "-c", "echo -n"});
  ASSERT_NE(bare.verb, nullptr) << bare.text;
  EXPECT_EQ(bare.arguments.command, (Words{"sh", "-c", "echo -n"}));
  const Parsed shell = parse({"shell", "17/train", "--", "ls", "-l"});
  ASSERT_NE(shell.verb, nullptr) << shell.text;
  EXPECT_EQ(shell.arguments.value("TARGET"), "17/train");
  EXPECT_EQ(shell.arguments.command, (Words{"ls", "-l"}));
  EXPECT_EQ(parse({"help", "store", "gc"}).arguments.list("VERB"), (Words{"store", "gc"}));
  EXPECT_TRUE(parse({"down"}).arguments.list("PROJECT").empty());
}

TEST(Parse, WrongUsageSaysWhatWasMeant) {
  const auto wrong = [](const Words& words, const std::string& part) {
    const Parsed parsed = parse(words);
    EXPECT_EQ(parsed.verb, nullptr) << words[0];
    EXPECT_EQ(parsed.status, kExitUsage);
    EXPECT_NE(parsed.text.find(part), std::string::npos) << parsed.text;
  };
  wrong({"upp"}, "did you mean 'up'?");
  wrong({"store", "cg"}, "did you mean 'gc'?");
  wrong({"store", "frobnicate"}, "it knows ls, verify, gc");
  wrong({"store", "verfy"}, "did you mean 'verify'?");
  wrong({"store"}, "ls, verify, gc");
  wrong({"up", "--froce"}, "--froce");
  wrong({"up", "extra"}, "extra");
  wrong({"logs"}, "TARGET");
  wrong({"run"}, "which command?");
  wrong({"run", "--"}, "which command?");
  wrong({"run", "--nope", "--", "true"}, "--nope");
  wrong({"shell", "17", "x", "--", "true"}, "follows --");
  wrong({"up", "-f"}, "file");
  wrong({"x\x1b[31m"}, "\\x1b");
}

TEST(Help, EveryVerbHasASummaryAndAnExampleThatParses) {
  const std::function<void(const std::vector<Verb>&, const std::string&)> check =
      [&](const std::vector<Verb>& verbs, const std::string& parent) {
        for (const Verb& verb : verbs) {
          const std::string name = parent + verb.name;
          EXPECT_FALSE(verb.summary.empty()) << name;
          EXPECT_NE(verb.examples.find("loam " + name), std::string::npos) << name;
          EXPECT_NE(help_of(verb, name).find("loam " + name), std::string::npos) << name;
          EXPECT_TRUE(verb.run != nullptr || !verb.verbs.empty()) << name;
          check(verb.verbs, name + " ");
        }
      };
  check(all_verbs(), "");
  EXPECT_NE(overview(all_verbs()).find("trace"), std::string::npos);
  const Parsed help = parse({"run", "--help"});
  EXPECT_EQ(help.status, kExitOk);
  EXPECT_NE(help.text.find("--memory SIZE"), std::string::npos) << help.text;
  EXPECT_NE(parse({"store", "--help"}).text.find("gc"), std::string::npos);
}

TEST(Completion, NamesEveryVerbAndOption) {
  const std::string bash = bash_completion(all_verbs());
  const std::string zsh = zsh_completion(all_verbs());
  const std::string fish = fish_completion(all_verbs());
  for (const Verb& verb : all_verbs()) {
    EXPECT_NE(bash.find("'" + verb.name + "')"), std::string::npos) << verb.name;
    EXPECT_NE(zsh.find("'" + verb.name + ":"), std::string::npos) << verb.name;
    EXPECT_NE(fish.find("-a " + verb.name + " "), std::string::npos) << verb.name;
  }
  EXPECT_NE(bash.find("'store gc') words='--dry-run --json --on'"), std::string::npos);
  EXPECT_NE(fish.find("-l dry-run"), std::string::npos);
}

TEST(Table, AlignsAndKeepsControlBytesOut) {
  const std::string text =
      format_table({{"NAME", "SIZE", "WHY"},
                    {{"a", "1 B", "x"}, {"größer", "10 KiB", ""}, {"\x1b[2J", "", "y\nz"}},
                    {1}});
  EXPECT_EQ(text,
            "NAME       SIZE  WHY\n"
            "a           1 B  x\n"
            "größer   10 KiB  -\n"
            "\\x1b[2J       -  y z\n");
}

TEST(Words, ExitsAndTheirStatus) {
  const auto record = [](const std::string& text) { return *Json::parse(text); };
  const Json exited = record(R"({"outcome":"exited","code":7})");
  EXPECT_EQ(status_of_exit(exited), 7);
  EXPECT_EQ(describe_exit(exited), "exit status 7");
  EXPECT_EQ(status_of_exit(record(R"({"outcome":"signaled","signal":15})")), 143);
  EXPECT_EQ(status_of_exit(record(R"({"outcome":"signaled","signal":-9999})")), 128);
  EXPECT_EQ(status_of_exit(record(R"({"outcome":"timed_out","signal":15})")), 124);
  const Json memory = record(
      R"({"outcome":"out_of_memory","memory_peak_bytes":1048576,"memory_limit_bytes":1048576})");
  EXPECT_EQ(status_of_exit(memory), 137);
  EXPECT_EQ(describe_exit(memory),
            "out of memory: charged peak 1.0 MiB of limit 1.0 MiB (includes cache)");
  EXPECT_EQ(status_of_exit(record(
                R"({"outcome":"failed_to_start","error":"exec x: No such file or directory"})")),
            127);
  EXPECT_EQ(status_of_exit(
                record(R"({"outcome":"failed_to_start","error":"x: no such file in the tree"})")),
            127);
  EXPECT_EQ(status_of_exit(
                record(R"({"outcome":"failed_to_start","error":"exec x: Permission denied"})")),
            126);
  EXPECT_EQ(status_of_exit(record(R"({"outcome":"lost"})")), 1);
  EXPECT_EQ(status_of_exit(record("[]")), 1);
  EXPECT_EQ(duration_of(record(R"({"started_ms":1000,"ended_ms":3400})")), "2.4 s");
}

TEST(Words, ReasonsProgressAndNumbers) {
  EXPECT_EQ(describe_reason(*Json::parse(R"({"changed":["params.lr","snapshot: train.py"]})")),
            "runs again, changed: params.lr, snapshot: train.py");
  EXPECT_EQ(describe_reason(*Json::parse("{}")), "new");
  EXPECT_EQ(
      describe_progress(*Json::parse(R"({"phase":"apt","done":1,"total":4,"text":"a\u001bb"})")),
      "apt 1/4 a\\x1bb");
  EXPECT_EQ(progress_bar(1, 4, 8), "[##......]");
  EXPECT_EQ(progress_bar(9, 4, 4), "[####]");
  EXPECT_EQ(progress_bar(1, 0, 4), "");
  EXPECT_EQ(format_cpus(500), "0.5");
  EXPECT_EQ(format_cpus(2000), "2");
  EXPECT_EQ(format_cpus(1250), "1.25");
  EXPECT_EQ(format_age(1'000, 61'000), "1 min");
  EXPECT_EQ(format_age(0, 61'000), "");
  EXPECT_EQ(short_digest("sha256:0123456789abcdef"), "0123456789ab");
}

TEST(Trace, LayersTopDownWithTheirFacts) {
  const auto trace = Json::parse(R"({"of":"req-1","layers":[
    {"kind":"request","digest":"","record":{"id":"req-1","status":200,"rows":1,"batch_rows":4,"queue_us":1500}},
    {"kind":"model","digest":"aaaaaaaaaaaaaaaaaaaa","record":{"model":"digits","number":3,"size_bytes":1024}},
    {"kind":"run","digest":"bbbbbbbbbbbbbbbbbbbb","record":{"run":17,"step":"train","outcome":"exited",
      "params":{"lr":"0.1"},"metrics":{"loss":{"last":"0.061634713162978","count":2}},"started_ms":1000,"ended_ms":3000}},
    {"kind":"host","digest":"cccccccccccccccccccc","record":{"facts":{"kernel":{"release":"6.1.0\u001b","machine":"x86_64"},
      "cpu":{"model":"A CPU"},"modules":{"loaded":[{"name":"a"},{"name":"b"}]}},
      "guards":[{"name":"seccomp","present":true},{"name":"memory","present":false}]}}]})");
  ASSERT_TRUE(trace);
  const std::string text = format_trace(trace_lines(*trace));
  const std::vector<std::string> wanted{
      "request",       "status 200",           "in a batch of 4", "digits@3", "17/train",
      "params lr=0.1", "metrics loss=0.06163", "A CPU",           "kernel",   "Linux 6.1.0\\x1b",
      "2 modules",     "guards seccomp",       "missing memory"};
  std::size_t at = 0;
  for (const std::string& part : wanted) {
    const auto found = text.find(part, at);
    EXPECT_NE(found, std::string::npos) << part << " after byte " << at << " of\n" << text;
    if (found != std::string::npos) at = found;
  }
  EXPECT_NE(text.find("model    aaaaaaaaaaaa  digits@3"), std::string::npos) << text;
}

bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(Installation, TheSystemsUnitLeavesShimsAlone) {
  const std::string unit = service_unit({.program = "/opt/a b/100%/loam",
                                         .user = false,
                                         .environment = {"LOAM_STATE_DIR=/data/l m"}});
  for (const char* line :
       {"ExecStart=\"/opt/a b/100%%/loam\" node run", "Type=notify", "KillMode=process",
        "Delegate=yes", "OOMPolicy=continue", "Restart=on-failure", "WantedBy=multi-user.target",
        "Environment=\"LOAM_STATE_DIR=/data/l m\""})
    EXPECT_TRUE(has_line(unit, line)) << line << " in\n" << unit;
  // Filters and hidden folders would reach the jobs.
  for (const char* word : {"SystemCall", "ProtectHome", "PrivateTmp", "NoNewPrivileges"})
    EXPECT_EQ(unit.find(word), std::string::npos) << word;
}

TEST(Installation, AUsersUnitAsksForNoRightsOfRoot) {
  const std::string unit = service_unit({.program = "/p", .user = true, .environment = {}});
  EXPECT_TRUE(has_line(unit, "WantedBy=default.target"));
  for (const char* word : {"Capability", "network-online"})
    EXPECT_EQ(unit.find(word), std::string::npos) << word;
}

}  // namespace
}  // namespace loam::cli
