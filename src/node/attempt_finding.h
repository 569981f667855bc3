// What a worker found in an ended attempt: made by finish.cc, read by again.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "node/runs_impl.h"

namespace loam::node {

struct Finding {
  // in
  RunRow run;
  JobRow job;
  ProjectPtr project;
  AttemptView attempt;
  std::string work, attempt_folder;
  std::string env_tree;
  Json env_section;
  std::vector<std::string> upstream;  // model records
  std::string output_path;            // below /project, "" where the step has none
  std::optional<Runs::Impl::CheckpointPlace> checkpoint;
  bool checkpoint_is_output = false;  // one folder for both
  bool goes_on = false;               // another attempt follows (again.cc)
  std::shared_ptr<store::Store::Pin> pin;
  // out
  std::string error;  // "" where the job succeeded
  std::string line;   // of the output
  std::string note;
  std::string run_record;
  Json metrics;  // of a task, for the table of its sweep
  std::vector<std::string> records;
  std::optional<store::TreeInfo> output;
  Settled settled;  // where another attempt would go on
};

// Whether the end of this attempt is followed by another one, unless somebody cancels the job.
bool goes_on(const spec::Step& step, const JobRow& job, const api::ExitRecord& exit);

}  // namespace loam::node
