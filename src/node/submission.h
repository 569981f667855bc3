// A submission on its way: what submit.cc has read and checked of it, and the snapshot that was taken.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "node/runs_impl.h"

namespace loam::node {

// From the request to the rows, or to the answer that says what they would be.
struct Submission {
  Intent intent = Intent::run;
  RunRow run;
  std::optional<spec::Project> project;
  Json secrets;
  Json proxy;
  std::vector<std::string> models;
  ResponderPtr responder;
  std::shared_ptr<store::Store::Pin> pin;  // what is put is not collected before a row names it
  bool empty_snapshot = false;
  std::string held;  // who submitted it to be held, "" where it is not
  Result<store::TreeInfo> snapshot = store::TreeInfo{};
  Result<std::vector<store::ListingEntry>> listing = std::vector<store::ListingEntry>{};
  std::set<std::string> matched;
  spec::ReadResult read;  // the file again, held against the snapshot
};

}  // namespace loam::node
