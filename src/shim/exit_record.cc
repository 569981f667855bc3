#include "shim/exit_record.h"

#include "base/files.h"

namespace loam::shim {

bool has_exit_record(const std::string& folder) { return path_exists(folder + "/exit.json"); }

Result<void> write_exit_record(const std::string& folder, const api::ExitRecord& record) {
  if (has_exit_record(folder)) return {};
  return write_file_atomic(folder + "/exit.json", api::to_json(record).dump(),
                           {.mode = 0600, .durable = true});
}

}  // namespace loam::shim
