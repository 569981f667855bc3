// Secrets at rest: only in STATE/secrets (0700), never in the database, a record or a log.
//
//   secrets/user-UID   what `loam secret` keeps for a user: NAME → value
//   secrets/run-ID     what came with a submission, until its jobs exist
//   secrets/job-ID     what the shim hands to the job, until the job ends
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace loam::node {

inline constexpr std::size_t kSecretBytesMax = 64 << 10;
inline constexpr std::size_t kSecretsOfUserMax = 256;

class Secrets {
 public:
  explicit Secrets(std::string folder) : folder_(std::move(folder)) {}

  std::vector<std::string> names(std::uint32_t uid) const;
  Result<void> put(std::uint32_t uid, const std::string& name, const std::string& value);
  Result<void> remove(std::uint32_t uid, const std::string& name);  // not_found

  // Of `wanted`: the submission's value, else the user's kept one; a name without a value: an error
  // naming it.
  Result<Json> resolve(std::uint32_t uid, const std::vector<std::string>& wanted,
                       const Json& submitted) const;

  Result<void> keep_for_run(std::int64_t run, const Json& document) const;
  Json of_run(std::int64_t run) const;
  void forget_run(std::int64_t run) const;
  // The path for AttemptPlan::secrets_file, "" where there are none.
  Result<std::string> keep_for_job(std::int64_t job, const Json& values) const;
  std::string file_of_job(std::int64_t job) const;  // "" where there is none
  void forget_job(std::int64_t job) const;

 private:
  Json of_user(std::uint32_t uid) const;
  std::string path(const char* kind, std::int64_t id) const;
  std::string folder_;
};

}  // namespace loam::node
