// loam-shim: the keeper of one attempt. Started by the node, outlives it.
#include <string_view>

#include "shim/shim.h"

int main(int argument_count, char** arguments) {
  if (argument_count > 1 && std::string_view(arguments[1]) == loam::shim::kServe)
    return loam::shim::serve_shims(argument_count, arguments);
  return loam::shim::run_shim(argument_count, arguments);
}
