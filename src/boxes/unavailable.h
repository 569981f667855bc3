#pragma once

#include <string>
#include <string_view>

namespace loam::boxes {

// A whole HTTP answer in a node's place, for who has connected to one that cannot be reached: 503
// with the code that a client waits on.
std::string unavailable_answer(std::string_view text);

}  // namespace loam::boxes
