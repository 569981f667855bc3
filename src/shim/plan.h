// From the node's plan to the sandbox's description.
#pragma once

#include "api/attempt.h"
#include "sandbox/sandbox.h"

namespace loam::shim {

// `rendezvous_port`: where a gang's ranks meet.
sandbox::Spec sandbox_spec(const api::AttemptPlan& plan, std::uint16_t rendezvous_port = 0);

// The guards that the plan requires and the sandbox has not: a sentence with the mend, "" where all
// hold.
std::string unmet_requirement(const api::AttemptPlan& plan,
                              const std::vector<api::MissingGuard>& missing);

std::vector<api::MissingGuard> missing_guards(const api::AttemptPlan& plan,
                                              const sandbox::Sandbox& sandbox);

}  // namespace loam::shim
