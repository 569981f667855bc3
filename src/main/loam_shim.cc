// loam-shim: the keeper of one attempt. Started by the node, outlives it.
#include "shim/shim.h"

int main(int argument_count, char** arguments) {
  return loam::shim::run_shim(argument_count, arguments);
}
