// What batch scripts say, as sbatch(1) has it.
#include "cli/slurm_job.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <random>

#include "base/files.h"

namespace loam::cli {
namespace {

SlurmValues values_of(const std::string& text) {
  const auto script = parse_slurm_script(text, "job.sh");
  EXPECT_TRUE(script) << script.error().text;
  return script ? script->values : SlurmValues{};
}

std::string error_of(const std::string& text) {
  const auto script = parse_slurm_script(text, "job.sh");
  return script ? "" : script.error().text;
}

SlurmJob job_of(const SlurmValues& values) {
  const auto job = slurm_job(values, "/work", "job.sh");
  EXPECT_TRUE(job) << job.error().text;
  return job ? *job : SlurmJob{};
}

std::string refused(const SlurmValues& values) {
  const auto job = slurm_job(values, "/work", "job.sh");
  return job ? "" : job.error().text;
}

TEST(SlurmScript, OptionsStandBeforeTheFirstCommand) {
  const SlurmValues values = values_of(
      "#!/bin/bash\n"
      "# a comment\n"
      "#SBATCH --job-name=\"two words\"   # why\n"
      "#SBATCH -c 4 --mem 8G -t1:00:00\n"
      "#SBATCH\t-o out-%j.txt\n"
      "##SBATCH --time=9\n"
      "#SBATCHX --time=9\n"
      "\n"
      "#SBATCH --requeue --nice\n"
      "set -e\n"
      "#SBATCH --cpus-per-task=9\n");
  EXPECT_EQ(values, (SlurmValues{{"job-name", "two words"},
                                 {"cpus-per-task", "4"},
                                 {"mem", "8G"},
                                 {"time", "1:00:00"},
                                 {"output", "out-%j.txt"},
                                 {"requeue", ""},
                                 {"nice", "100"}}));
}

TEST(SlurmScript, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_EQ(error_of("echo\n"),
            "job.sh:1: expected a batch script, whose first line is #! and the path of an "
            "interpreter, such as #!/bin/sh");
  EXPECT_EQ(error_of("#!/bin/sh\n\n#SBATCH --cpus-per-tsak=4\n"),
            "job.sh:3: found '--cpus-per-tsak=4', expected an option of sbatch; did you mean "
            "'--cpus-per-task'?");
  EXPECT_EQ(error_of("#!/bin/sh\n#SBATCH --partitio gpu\n"),
            "job.sh:2: found '--partitio', expected an option of sbatch; did you mean "
            "'--partition'?");
  EXPECT_EQ(error_of("#!/bin/sh\n#SBATCH --time\n"), "job.sh:2: --time: expected TIME after it");
  EXPECT_NE(error_of("#!/bin/sh\r\n").find("dos2unix"), std::string::npos);
}

TEST(SlurmScript, SrunIsFound) {
  const auto script =
      parse_slurm_script("#!/bin/sh\n# srun x\n  srun python x.py\necho srun\n", "job.sh");
  ASSERT_TRUE(script);
  EXPECT_EQ(script->calls_srun, std::vector<std::string>{"job.sh:3"});
}

// The forms of sbatch(1), --time.
TEST(SlurmJob, Times) {
  const std::int64_t minute = 60'000;
  EXPECT_EQ(parse_slurm_time("30"), 30 * minute);
  EXPECT_EQ(parse_slurm_time("1:30"), minute + 30'000);
  EXPECT_EQ(parse_slurm_time("2:00:05"), 120 * minute + 5'000);
  EXPECT_EQ(parse_slurm_time("1-12"), 36 * 60 * minute);
  EXPECT_EQ(parse_slurm_time("1-12:30"), (36 * 60 + 30) * minute);
  EXPECT_EQ(parse_slurm_time("1-00:00:01"), 24 * 60 * minute + 1000);
  EXPECT_EQ(parse_slurm_time("UNLIMITED"), 0);
  for (const char* text : {"", "x", "1:2:3:4", "-5", "1-", "1-x", "1:-2"})
    EXPECT_FALSE(parse_slurm_time(text)) << text;
}

TEST(SlurmJob, Memory) {
  EXPECT_EQ(parse_slurm_memory("mem", "500"), 500);
  EXPECT_EQ(parse_slurm_memory("mem", "4G"), 4096);
  EXPECT_EQ(parse_slurm_memory("mem", "4GB"), 4096);
  EXPECT_EQ(parse_slurm_memory("mem", "1T"), 1 << 20);
  EXPECT_EQ(parse_slurm_memory("mem", "1K"), 1);
  for (const char* text : {"", "G", "4X", "-1", "1.5G", "99999999999T"})
    EXPECT_FALSE(parse_slurm_memory("mem", text)) << text;
  EXPECT_EQ(job_of({{"mem-per-cpu", "2G"}, {"ntasks", "2"}, {"cpus-per-task", "3"}}).memory_bytes,
            12ll << 30);
  EXPECT_EQ(job_of({{"mem-per-gpu", "2G"}, {"gpus", "3"}}).memory_bytes, 6ll << 30);
  EXPECT_EQ(job_of({}).not_honoured, std::vector<std::string>{"no --mem: it may use 1 GiB"});
}

TEST(SlurmJob, Arrays) {
  using Indexes = std::vector<std::uint32_t>;
  EXPECT_EQ(parse_slurm_array("0-3")->indexes, (Indexes{0, 1, 2, 3}));
  EXPECT_EQ(parse_slurm_array("7,1,3")->indexes, (Indexes{1, 3, 7}));
  EXPECT_EQ(parse_slurm_array("0-15:5")->indexes, (Indexes{0, 5, 10, 15}));
  EXPECT_EQ(parse_slurm_array("0-15:5")->step, 5u);
  EXPECT_TRUE(parse_slurm_array("0-3%2")->limited);
  for (const char* text : {"", "x", "3-1", "1-", "0-3:0", "0-3%", "0-99999999", "0-20000"})
    EXPECT_FALSE(parse_slurm_array(text)) << text;
}

TEST(SlurmJob, Devices) {
  const auto gpus = [](const SlurmValues& values) {
    std::string text;
    for (const auto& [kind, amount] : job_of(values).devices)
      text += kind + "/" + amount.model + "/" + std::to_string(amount.count) + " ";
    return text;
  };
  EXPECT_EQ(gpus({{"gpus", "2"}}), "gpu//2 ");
  EXPECT_EQ(gpus({{"gpus", "a100:2"}}), "gpu/a100/2 ");
  EXPECT_EQ(gpus({{"gres", "gpu"}}), "gpu//1 ");
  EXPECT_EQ(gpus({{"gres", "gpu:a100"}}), "gpu/a100/1 ");
  EXPECT_EQ(gpus({{"gres", "gpu:a100:4,licence-x:2"}}), "gpu/a100/4 licence-x//2 ");
  EXPECT_EQ(gpus({{"gpus-per-task", "2"}, {"ntasks", "2"}}), "gpu//4 ");
  EXPECT_EQ(gpus({{"gpus", "0"}}), "");
  EXPECT_NE(refused({{"gpus", "many"}}), "");
  EXPECT_NE(refused({{"gres", "gpu:a:b:c"}}), "");
}

TEST(SlurmJob, WhatCannotBeDoneHereIsRefusedAndTheRestNamed) {
  EXPECT_EQ(refused({{"nodes", "2"}}),
            "--nodes: found '2', expected 1: Loam runs a job on one machine");
  EXPECT_EQ(refused({{"nodes", "1-4"}}), "");
  EXPECT_NE(refused({{"mem", "0"}}), "");
  EXPECT_NE(refused({{"ntasks", "0"}}), "");
  EXPECT_NE(refused({{"dependency", "singleton"}}), "");
  EXPECT_EQ(job_of({{"dependency", "afterok:3:4,afterany:5"}}).dependency,
            (std::vector<std::string>{"afterok:3", "afterok:4", "afterany:5"}));
  EXPECT_EQ(job_of({{"nice", "100"}}).priority, -100);
  EXPECT_EQ(
      job_of({{"mem", "1G"}, {"partition", "gpu"}, {"exclusive", ""}}).not_honoured,
      (std::vector<std::string>{"--exclusive is not honoured", "--partition=gpu is not honoured"}));
}

TEST(SlurmJob, FoldersThatAreWritten) {
  EXPECT_EQ(slurm_folders(job_of({{"output", "logs/%j.out"}})), std::vector<std::string>{"/work"});
  EXPECT_EQ(slurm_folders(job_of(
                {{"chdir", "sub"}, {"output", "/data/logs/%x/%j.out"}, {"error", "/dev/null"}})),
            (std::vector<std::string>{"/work", "/data/logs"}));
}

class SlurmStart : public testing::Test {
 protected:
  SlurmStart() { EXPECT_NE(::mkdtemp(folder_), nullptr); }
  ~SlurmStart() override { (void)remove_tree(folder_); }
  // The path of the output as the script itself works it out, by a shell.
  std::string output_of(const std::string& pattern, const SlurmTask& task = {}) const {
    SlurmJob job = job_of({{"job-name", "it's $HOME"}});
    job.folder = job.submit_folder = folder_;
    job.output = pattern;
    if (task.index) job.array = SlurmArray{{3, 7}, 4, false};
    std::string text = slurm_start_script(job, {"ana", "box", 1000}, task);
    text = text.substr(0, text.find("exec <"));  // before it opens anything
    EXPECT_TRUE(write_file_atomic(std::string(folder_) + "/start", text, {.durable = false}));
    const std::string command =
        "LOAM_RUN=17 LOAM_ATTEMPT=1 sh " + std::string(folder_) + "/start > " + folder_ + "/said";
    EXPECT_EQ(::system(command.c_str()), 0) << text;
    std::string said = *read_file(std::string(folder_) + "/said");
    const std::string before = "output: " + std::string(folder_) + "/";
    EXPECT_TRUE(said.starts_with(before)) << said;
    return said.substr(before.size(), said.size() - before.size() - 1);
  }
  char folder_[32] = "/tmp/loam-slurm-XXXXXX";
};

TEST_F(SlurmStart, OutputPatterns) {
  EXPECT_EQ(output_of(""), "slurm-17.out");
  EXPECT_EQ(output_of("", {.index = 7, .array_job = 15}), "slurm-15_7.out");
  EXPECT_EQ(output_of("%x-%u-%N.%5j.log"), "it's $HOME-ana-box.00017.log");
  EXPECT_EQ(output_of("a%%b %q $(id) `id` \"x\""), "a%b %q $(id) `id` \"x\"");
  EXPECT_EQ(output_of("%A_%4a", {.index = 3}), "17_0003");
  EXPECT_EQ(output_of("\\%j"), "%j");
}

// A script's head is whatever somebody has; its lines are read or refused, never more.
TEST(SlurmScript, GarbageIsReadOrRefused) {
  const std::string good =
      "#!/bin/sh\n#SBATCH --job-name=\"a b\" -c 4 --mem=8G\n#SBATCH -a 0-7:2%3 -t 1-2:03\n"
      "#SBATCH --gres=gpu:a100:2 -o %x-%5j.out --export=ALL,A=b --dependency=afterok:1\n";
  std::mt19937_64 random(11);
  int read = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = good;
    for (int changes = static_cast<int>(random() % 5); changes > 0; --changes)
      text[10 + random() % (text.size() - 10)] =
          random() % 2 == 0 ? static_cast<char>(random()) : "\"' \\=-:%,0\n"[random() % 11];
    const auto script = parse_slurm_script(text, "job.sh");
    if (!script) continue;
    const auto job = slurm_job(script->values, "/work", "job.sh");
    if (!job) continue;
    ++read;
    ASSERT_GT(job->memory_bytes, 0);
    ASSERT_FALSE(slurm_start_script(*job, {"ana", "box", 1}, {}).empty());
  }
  EXPECT_GT(read, 2000);
}

}  // namespace
}  // namespace loam::cli
