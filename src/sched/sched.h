// Who runs next on this machine. Pure: state and one event in, actions out; no clock, no I/O, no
// unordered iteration. Today: strict order of arrival, a claim starts when it fits; the next one
// never overtakes a waiting claim of the same kind (jobs wait in order; services do not queue
// behind jobs' steps, they are claims in the same queue).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace loam::sched {

struct Amount {
  std::uint64_t cpu_milli = 0;
  std::uint64_t memory_bytes = 0;
};

using ClaimId = std::uint64_t;  // the node's attempt-independent id of a job or replica

struct Claim {
  ClaimId id = 0;
  Amount amount;
};

enum class ClaimState { waiting, granted };

struct Entry {
  Claim claim;
  ClaimState state = ClaimState::waiting;
};

struct State {
  Amount total;
  Amount used;
  bool over = false;           // adopted claims exceed the machine (it shrank between two nodes)
  std::vector<ClaimId> queue;  // waiting, in order of arrival
  std::map<ClaimId, Entry> claims;  // ordered: iteration is deterministic
};

struct Action {
  enum class Kind { grant } kind = Kind::grant;
  ClaimId claim = 0;
};
using Actions = std::vector<Action>;

// A claim that can never fit is refused with what there is, e.g. "asks for 64 CPUs; this machine
// has 2".
// "" where it fits an empty machine.
std::string refusal(const State& state, const Amount& amount);

void on_submitted(State& state, const Claim& claim, Actions& actions);
// A claim found granted at the node's start (its attempt runs): counted, never re-granted.
void on_adopted(State& state, const Claim& claim);
// Ended or cancelled, waiting or granted.
void on_released(State& state, ClaimId id, Actions& actions);

// "waits for 1.5 of 2 CPUs (0.5 free) behind 3 claims", "" when granted.
std::string explain(const State& state, ClaimId id);

// Sum of granted equals used, used within total (unless `over`), queue and states agree, and the
// first waiting claim does not fit: nothing waits that could run. For tests: after every event.
bool sane(const State& state);

}  // namespace loam::sched
