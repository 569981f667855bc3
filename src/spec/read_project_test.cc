// What the types hold after reading; what is refused is tests/corpus/spec's part.
#include <gtest/gtest.h>
#include <signal.h>

#include "base/files.h"
#include "base/text.h"
#include "spec/parts.h"
#include "spec/project.h"

namespace loam::spec {
namespace {

using namespace std::chrono_literals;

class AllFiles : public Folder {
 public:
  explicit AllFiles(std::string requirements = "") : requirements_(std::move(requirements)) {}
  bool has_file(const std::string&) const override { return true; }
  std::size_t matches(const std::string&, std::size_t) const override { return 1; }
  Result<std::string> read(const std::string& path) const override {
    if (path.ends_with(".py")) return fail(ErrorCode::not_found, path);
    return requirements_;
  }

 private:
  std::string requirements_;
};

Project must_read(std::string_view text, const Folder* folder = nullptr) {
  ReadResult result = read_project(text, folder);
  EXPECT_EQ(format_problems("f", result.problems), "");
  EXPECT_TRUE(result.project);
  return result.project.value_or(Project{});
}

std::string problems_of(std::string_view text) {
  return format_problems("f", read_project(text, nullptr).problems);
}

TEST(ReadProject, TheWholeFile) {
  const auto text = read_file(LOAM_SOURCE_DIR "/tests/corpus/spec/good/full.yaml");
  ASSERT_TRUE(text);
  const Project project = must_read(*text);
  EXPECT_EQ(project.name, "digits");
  EXPECT_EQ(project.env.base, "debian:bookworm");
  EXPECT_EQ(project.env.apt[1], "python3-numpy");
  EXPECT_EQ(project.env.pip[2], "numpy ~= 1.26 ; python_version < \"3.13\"");
  ASSERT_EQ(project.mounts.size(), 2u);
  EXPECT_EQ(project.mounts[0].from, "/data/imagenet");
  EXPECT_EQ(project.mounts[0].mode, MountMode::ro);
  EXPECT_EQ(project.mounts[1].mode, MountMode::rw);
  EXPECT_EQ(project.vars,
            (std::map<std::string, std::string>{
                {"OMP_NUM_THREADS", "2"}, {"DEBUG", "true"}, {"RATE", "1e-3"}, {"LEVEL", "3"}}));
  EXPECT_EQ(project.secrets, std::vector<std::string>{"HF_TOKEN"});
  EXPECT_EQ(project.keep.attempts, 7 * 24h);
  ASSERT_EQ(project.data.size(), 1u);
  EXPECT_EQ(project.data[0].fingerprint, Fingerprint::sample);
  EXPECT_EQ(project.data[0].files, "data/digits-*.jsonl");
  ASSERT_EQ(project.steps.size(), 2u);
  ASSERT_EQ(project.services.size(), 2u);
  EXPECT_EQ(project.endpoint, "127.0.0.1:8000");
  EXPECT_GT(project.endpoint_place.line, 40);
}

TEST(ReadProject, AStep) {
  const auto text = read_file(LOAM_SOURCE_DIR "/tests/corpus/spec/good/full.yaml");
  const Project project = must_read(*text);
  const Step& prepare = project.steps[0];
  EXPECT_EQ(prepare.run.argv, (std::vector<std::string>{"python3", "prepare.py", "--seed", "7"}));
  EXPECT_EQ(prepare.run.text, R"(["python3","prepare.py","--seed","7"])");
  EXPECT_EQ(prepare.scratch, Scratch::disk);
  EXPECT_EQ(prepare.network, Network::host);
  EXPECT_EQ(prepare.params.dump(), "{}");
  const Step& train = project.steps[1];
  EXPECT_EQ(train.run.argv, (std::vector<std::string>{"sh", "-c", "python3 train.py"}));
  EXPECT_EQ(train.run.text, "python3 train.py");
  EXPECT_EQ(train.after, std::vector<std::string>{"prepare"});
  EXPECT_EQ(train.params.dump(),
            R"({"hidden":64,"lr":0.1,"nested":{"x":null,"y":true},"tags":["a","b"]})");
  EXPECT_EQ(train.resources.cpu_milli, 2000u);
  EXPECT_EQ(train.resources.memory_bytes, 2ull << 30);
  EXPECT_EQ(train.resources.time, 1h);
  EXPECT_EQ(train.network, Network::none);
  EXPECT_EQ(train.require, (std::vector<std::string>{"memory", "seccomp"}));
  EXPECT_EQ(train.retries, 3);
  EXPECT_EQ(train.code, (std::vector<std::string>{"train.py", "src/**"}));
  EXPECT_EQ(train.output->model, "digits");
  EXPECT_EQ(train.output->path, "model");
  EXPECT_TRUE(train.env == project.env);
}

TEST(ReadProject, AService) {
  const auto text = read_file(LOAM_SOURCE_DIR "/tests/corpus/spec/good/full.yaml");
  const Project project = must_read(*text);
  const Service& service = project.services[0];
  EXPECT_EQ(service.name, "digits");
  EXPECT_EQ(service.model, "digits");
  EXPECT_FALSE(service.version);
  EXPECT_EQ(service.handler_file, "serve.py");
  EXPECT_EQ(service.handler_function, "predict");
  EXPECT_EQ(service.resources.cpu_milli, 500u);
  EXPECT_EQ(service.resources.memory_bytes, 512'000'000u);
  EXPECT_EQ(service.batch_max, 32u);
  EXPECT_EQ(service.batch_delay_max, 5ms);
  EXPECT_EQ(service.replicas.min, 2);
  EXPECT_EQ(service.replicas.max, 2);
  EXPECT_EQ(project.services[1].version, 3);
  EXPECT_EQ(project.services[1].replicas.min, 2);
  EXPECT_EQ(project.services[1].replicas.max, 4);
  EXPECT_EQ(project.services[1].network, Network::none) << "the default";
}

TEST(ReadProject, ShortForms) {
  const Project project =
      must_read("name: digits\ntrain: {run: x, output: model}\nserve: serve.py:predict\n");
  ASSERT_EQ(project.steps.size(), 1u);
  EXPECT_EQ(project.steps[0].name, "train");
  EXPECT_EQ(project.steps[0].output->model, "digits");
  EXPECT_EQ(project.steps[0].output->path, "model");
  ASSERT_EQ(project.services.size(), 1u);
  EXPECT_EQ(project.services[0].name, "digits");
  EXPECT_EQ(project.services[0].model, "digits");
  EXPECT_EQ(project.services[0].handler_function, "predict");
}

TEST(ReadProject, Defaults) {
  const Project project = must_read("name: a\ntrain: {run: x}\n");
  EXPECT_EQ(project.env.base, "host");
  EXPECT_EQ(project.endpoint, "127.0.0.1:8000");
  EXPECT_EQ(project.keep.runs, 100);
  EXPECT_EQ(project.steps[0].resources.cpu_milli, 1000u);
  EXPECT_EQ(project.steps[0].resources.time, 0ns);
  EXPECT_EQ(project.steps[0].resources.place.line, 2) << "for a request that can never fit";
}

TEST(ReadProject, PlacesForLaterFindings) {
  const Project project = must_read(
      "name: a\nenv:\n  base: host\ntrain:\n  run: x\n  resources:\n    cpus: 2\nendpoint: a:1\n");
  EXPECT_EQ(project.env.place.line, 2);
  EXPECT_EQ(project.steps[0].place.line, 4);
  EXPECT_EQ(project.steps[0].resources.place.line, 6);
  EXPECT_EQ(project.endpoint_place.line, 8);
  EXPECT_EQ(project.endpoint_place.column, 11);
}

TEST(ReadProject, StepsComeInAnOrderInWhichTheyCanRun) {
  const Project project = must_read(
      "name: a\nsteps:\n  d: {run: x, after: [b, c]}\n  b: {run: x, after: [a1]}\n"
      "  c: {run: x, after: [a1]}\n  a1: {run: x}\n  e: {run: x}\n");
  std::vector<std::string> names;
  for (const Step& step : project.steps) names.push_back(step.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a1", "e", "b", "c", "d"}));
}

TEST(ReadProject, OwnEnvOfStepAndService) {
  const Project project = must_read(
      "name: a\nenv: {base: debian:bookworm}\nsteps:\n  s: {run: x, env: {base: host}}\n  t: {run: "
      "x}\n"
      "services:\n  w: {model: m, handler: s.py:f, env: {base: debian:trixie}}\n");
  EXPECT_EQ(project.steps[0].env.base, "host");
  EXPECT_EQ(project.steps[1].env.base, "debian:bookworm");
  EXPECT_EQ(project.services[0].env.base, "debian:trixie");
}

TEST(ReadProject, PathsAreNormal) {
  const Project project = must_read(
      "name: a\nmounts: [{from: /a//b/./c/, to: /x/}]\ndata: {d: ./data//*.csv}\n"
      "train: {run: x, output: ./out//m/, code: [./src/]}\nserve: ./app/serve.py:f\n");
  EXPECT_EQ(project.mounts[0].from, "/a/b/c");
  EXPECT_EQ(project.mounts[0].to, "/x");
  EXPECT_EQ(project.data[0].files, "data/*.csv");
  EXPECT_EQ(project.steps[0].output->path, "out/m");
  EXPECT_EQ(project.steps[0].code[0], "src");
  EXPECT_EQ(project.services[0].handler_file, "app/serve.py");
}

TEST(ReadProject, RequirementsFile) {
  const std::string hash(64, 'a');
  const AllFiles folder("# comment\r\nnumpy==1.26.4 \\\n    --hash=sha256:" + hash +
                        " \\\n    --hash=sha256:" + hash +
                        "\n\n  scipy>=1,<2  # why\nx[y,z]; python_version<'3'\n");
  const Project project = must_read("name: a\nenv: {pip: requirements.txt}\n", &folder);
  EXPECT_EQ(project.env.pip_file, "requirements.txt");
  EXPECT_EQ(project.env.pip, (std::vector<std::string>{
                                 "numpy==1.26.4 --hash=sha256:" + hash + " --hash=sha256:" + hash,
                                 "scipy>=1,<2", "x[y,z]; python_version<'3'"}));
}

TEST(ReadProject, WithoutAFolderNothingAboutFilesIsChecked) {
  const Project project =
      must_read("name: a\nenv: {pip: absent.txt}\ndata: {d: absent/*}\nserve: absent.py:f\n");
  EXPECT_EQ(project.env.pip_file, "absent.txt");
  EXPECT_TRUE(project.env.pip.empty());
}

TEST(ReadProject, LongCommandsAreRefusedBeforeTheKernelDoes) {
  const std::string text(128 * 1024 - 1, 'x');
  must_read("name: a\ntrain: {run: " + text + "}\n");
  EXPECT_NE(problems_of("name: a\ntrain: {run: " + text + "x}\n").find("bytes that Linux allows"),
            std::string::npos);
  EXPECT_NE(problems_of("name: a\ntrain: {run: x, params: {a: " + text + "}}\n")
                .find("train.params: all parameters"),
            std::string::npos);
  EXPECT_NE(problems_of("name: a\nvars: {A: " + text + "}\n").find("vars.A: is longer"),
            std::string::npos);
}

TEST(ReadProject, Checkpoints) {
  const auto step_of = [](const std::string& keys) {
    return must_read("name: a\ntrain: {run: x" + keys + "}\n").steps.at(0);
  };
  const Step none = step_of("");
  EXPECT_FALSE(none.checkpoint || none.preemptible);
  EXPECT_TRUE(none.retry_on.empty());
  const Step plain = step_of(", checkpoint: ./ck/");
  ASSERT_TRUE(plain.checkpoint);
  EXPECT_EQ(plain.checkpoint->path, "ck");
  EXPECT_EQ(plain.checkpoint->match, "checkpoint-*");
  EXPECT_EQ(plain.checkpoint->signal, SIGUSR1);
  EXPECT_EQ(plain.checkpoint->grace, 30s);
  EXPECT_EQ(plain.checkpoint->keep, 3);
  EXPECT_TRUE(plain.checkpoint->resume.empty());
  EXPECT_TRUE(plain.preemptible);
  EXPECT_FALSE(step_of(", checkpoint: ck, preemptible: false").preemptible);
  EXPECT_TRUE(step_of(", preemptible: true").preemptible);
  const Step full = step_of(
      ", checkpoint: {path: ck, signal: SIGTERM, resume: \" --from  {path}\"}, retries: 1, "
      "retry_on: [oom, \"exit:75\", \"signal:SIGSEGV\"]");
  EXPECT_EQ(full.checkpoint->signal, SIGTERM);
  EXPECT_EQ(full.checkpoint->resume, (std::vector<std::string>{"--from", "{path}"}));
  EXPECT_EQ(full.retry_on, (std::vector<RetryOn>{{RetryOn::Kind::out_of_memory, {}},
                                                 {RetryOn::Kind::exit, 75},
                                                 {RetryOn::Kind::signal, SIGSEGV}}));
}

TEST(ReadProject, ArgumentsNeedAnEndOfTheCommand) {
  for (const char* text : {"python3 x.py", "cd a && python3 x.py\n", "echo 'a #b'", "x done",
                           "echo a#b", "a |\n b", "echo \"it's # done\""})
    EXPECT_EQ(arguments_problem(text), std::string_view(text) == "x done" ? "ends in 'done'" : "")
        << text;
  for (const char* text : {"x # train", "x;", "x &", "(cd a; x)", "{ x; }", "while a; do b; done\n",
                           "if a; then b; fi", "x |", "x \\"})
    EXPECT_NE(arguments_problem(text), "") << text;
}

TEST(ReadProject, OneLineForEachProblemWhateverTheFileHolds) {
  const std::string text =
      "name: a\n\"k\\n\\e[31m" + std::string(500, 'x') + "\": 1\nendpoint: \"a\\nb\\e[2J\"\n";
  const std::string shown = problems_of(text);
  EXPECT_EQ(split(shown, '\n').size(), 3u) << shown;
  EXPECT_EQ(shown.find('\x1b'), std::string::npos);
  EXPECT_LT(shown.size(), 700u);
}

TEST(Sweep, EveryCombinationTheLastChangingFastest) {
  const auto result = read_project(
      "name: a\ntrain: {run: x, sweep: {seed: -1..0, lr: [1e-3, {a: 1}]}}\n", nullptr);
  ASSERT_TRUE(result.project.has_value()) << format_problems("f", result.problems);
  std::string shown;
  for (const Json& task : task_params(result.project->steps[0].sweep)) shown += task.dump() + " ";
  EXPECT_EQ(shown,
            R"({"lr":0.001,"seed":-1} {"lr":{"a":1},"seed":-1} {"lr":0.001,"seed":0} )"
            R"({"lr":{"a":1},"seed":0} )");
}

TEST(Schema, NamesEveryKeyThatTheReaderTakes) {
  const Json schema = json_schema();
  EXPECT_EQ(schema["$schema"].as_string(), "https://json-schema.org/draft/2020-12/schema");
  const auto keys = [](const Json& properties) {
    std::string text;
    for (const auto& [key, value] : properties.as_object()) text += key + " ";
    return text;
  };
  EXPECT_EQ(keys(schema["properties"]),
            "account data endpoint env keep mounts name secrets serve services steps train vars ");
  EXPECT_EQ(keys(schema["$defs"]["step"]["properties"]),
            "after checkpoint code env network output params preemptible priority ranks resources "
            "retries retry_on run sandbox scratch sweep tasks ");
  EXPECT_EQ(keys(schema["$defs"]["step"]["properties"]["checkpoint"]["anyOf"].as_array()[1]
                       ["properties"]),
            "grace keep match path resume signal ");
  EXPECT_EQ(keys(schema["$defs"]["serviceBody"]["properties"]),
            "batch env handler model network priority replicas resources sandbox ");
}

TEST(Requirements, WhatIsTaken) {
  for (const char* line :
       {"numpy", "numpy==1.26.4", "numpy >= 1, < 2", "a.b-c_d", "x[y]", "x[y,z]~=1.0", "x (>=1)",
        "x; python_version<'3'", "x==1.*", "x!=1,!=2", "x===foo"})
    EXPECT_EQ(requirement_problem(line), "") << line;
  for (const char* line : {"",
                           "-r x",
                           "--no-index",
                           "git+https://x/y",
                           "./x",
                           "/x",
                           "x.whl",
                           "x @ y",
                           "x=1",
                           "x==",
                           "x 1",
                           "x>",
                           "x==1 -r y",
                           "x==1 --hash=md5:1",
                           "x==1 --hash=sha256:1",
                           "-x",
                           "x-",
                           "x[",
                           "x\ny",
                           "x==1\n-r y"})
    EXPECT_NE(requirement_problem(line), "") << line;
}

}  // namespace
}  // namespace loam::spec
