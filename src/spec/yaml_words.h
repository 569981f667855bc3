// What yaml-cpp finds wrong, in words that say what to mend.
#pragma once

#include <string>
#include <string_view>

#include "spec/bytes.h"
#include "spec/project.h"

namespace loam::spec {

// The parser stumbles on the line of a tab or on what follows it: then the tab is the problem.
Problem syntax_problem(Place place, const std::string& message, const Indentation& indentation);
// A document that begins, or what yaml-cpp takes for one.
Problem second_document_problem(Place place, std::string_view text);

}  // namespace loam::spec
