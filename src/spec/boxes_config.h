// The user's own file of boxes (docs/boxes.md), read with the machinery and the errors of
// loam.yaml:
//
//   boxes:
//     gpu1: anna@gpu1.lab
//     gpu2: {ssh: gpu2, program: /opt/loam/bin/loam}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "spec/project.h"

namespace loam::spec {

inline constexpr std::size_t kBoxesMax = 256;

struct ConfiguredBox {
  std::string name;
  std::string ssh;      // what ssh is called with; "": the name
  std::string program;  // "": loam, as a command over ssh finds it
  Place place;
};

// What the values may be is asked of who knows ssh: "" or what is wrong.
struct BoxChecks {
  std::string (*destination)(std::string_view);
  std::string (*program)(std::string_view);
};

struct BoxesConfigResult {
  std::vector<ConfiguredBox> boxes;  // in file order; only where there are no problems
  std::vector<Problem> problems;
};
BoxesConfigResult read_boxes_config(std::string_view text, const BoxChecks& checks);

}  // namespace loam::spec
