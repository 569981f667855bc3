// What can be said against a submission before anything of it is kept.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "node/http_server.h"
#include "node/node.h"
#include "node/run_tables.h"
#include "spec/project.h"

namespace loam::node {

bool wants_steps(const std::string& verb);
bool wants_services(const std::string& verb);

Result<void> check_folder(const std::string& folder);
// The words of the shell that a caller gets who names no command.
Json default_shell();
Result<void> check_command(const Json& command);
// Whose queue place, shares and quotas a submission counts against.
struct Submitter {
  std::string user, account;
  bool may_raise = false;  // priorities above 0
};
// `account`: as asked for, "" where nothing was. not_found, denied: it cannot be used.
Result<Submitter> submitter_of(const Node& node, const Caller& caller, const std::string& account);
// `priority` of a submission, none or within what the submitter may ask for.
Result<std::optional<std::int64_t>> checked_priority(const Json& body, const Submitter& submitter);

// What this machine can never do, each at its place in the file, in file order.
std::vector<spec::Problem> find_misfits(const Node& node, const Submitter& submitter,
                                        const std::string& verb, const spec::Project& project);
// "" where it can run on the empty machine; `asked`: what job_request.h carries.
std::string refusal_of(const Node& node, const Submitter& submitter, sched::Request request,
                       const Json& asked);
// What a run without a file does: checked as it will be queued, then among the run's options.
Result<void> read_command(const Node& node, const Json& command, const Submitter& submitter,
                          RunRow& run);
// How many claims these jobs are to the queue: of a sweep its tasks.
std::int64_t claims_of(const std::vector<JobRow>& jobs, const std::optional<spec::Project>& project);
// False: they may not all be queued beside what waits, and that has been answered (429 where they
// might be later, else 400).
bool queue_has_room(const Node& node, const RunRow& run,
                    const std::optional<spec::Project>& project, const ResponderPtr& responder);
// 422, with the problems one by one and as text.
void refuse(const ResponderPtr& responder, const std::string& file,
            const std::vector<spec::Problem>& problems);

}  // namespace loam::node
