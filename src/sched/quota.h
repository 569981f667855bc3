// What users and accounts may hold at one time.
#pragma once

#include <string>
#include <vector>

#include "sched/state.h"

namespace loam::sched {

// Whether the quotas of the association's user and account leave room for one more such task.
bool quota_leaves(const State& state, FairShare::Index association, const Need& need,
                  const std::vector<std::int64_t>& pieces);
// What stands against it: "anna holds 2 of 2 gpus"; "" where nothing does.
std::string quota_against(const State& state, const Entry& entry);
// Why it can never run: "asks for 4 gpus; anna may hold 2 at a time".
std::string quota_refusal(const State& state, const Claim& claim, const Need& need);
std::optional<Quota> quota_of_user(const Policy& policy, const std::string& user);
std::optional<Quota> quota_of_account(const Policy& policy, const std::string& account);
// Fits `held` to the policy and the machine's kinds.
void set_quota(Held& held, const std::optional<Quota>& quota, const Layout& layout);

}  // namespace loam::sched
