// Model, the replicas' number: what the load asks for, and who may go.
#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/model.h"

namespace loam::gateway {

std::optional<std::uint32_t> Model::wanted_replicas() const {
  return scaling_ ? std::optional(scaling_->wanted()) : std::nullopt;
}

std::vector<std::string> Model::spare_attempts() const {
  std::vector<std::string> names;
  for (const auto& worker : workers_)
    if (worker->ready() && worker->spare) names.push_back(worker->identity().attempt);
  return names;
}

// Where the plan takes the choice away, as while another run takes this one's place, nobody is
// spare: the node ends no one on our word then.
void Model::set_scale() {
  if (plan_.scale && scaling_) return scaling_->set_limits(*plan_.scale, steady_ns());
  scaling_.reset();
  if (plan_.scale) scaling_.emplace(*plan_.scale, steady_ns());
  for (const auto& worker : workers_) worker->spare = false;
}

// One that is idle goes, of these the last that the plan lists: so nothing that was accepted is with
// who goes.
bool Model::let_go_of_one() {
  for (auto listed = plan_.replicas.rbegin(); listed != plan_.replicas.rend(); ++listed) {
    Worker* worker = worker_of(listed->attempt);
    if (worker == nullptr || !worker->idle()) continue;
    worker->spare = true;
    log_info("model " + plan_.name + "@" + plan_.version + ": replica " + listed->attempt +
             " is spare");
    return true;
  }
  return false;
}

// The node ends nobody whom the least number needs: where another has died since, the spare one
// serves again.
bool Model::take_back_one() {
  const auto found = std::find_if(workers_.begin(), workers_.end(), [](const auto& worker) {
    return worker->ready() && worker->spare;
  });
  if (found == workers_.end()) return false;
  (*found)->spare = false;
  return true;
}

Scaling::Load Model::load() const {
  Scaling::Load load;
  for (const auto& worker : workers_) {
    load.serving += worker->serving() ? 1 : 0;
    load.busy += worker->serving() && worker->batch ? 1 : 0;
  }
  if (const Job* oldest = queue_.front()) load.waiting_since_ns = oldest->arrived_ns;
  return load;
}

void Model::rescale() {
  if (!scaling_) return;
  bool changed = false;
  while (load().serving < plan_.scale->min && take_back_one()) changed = true;
  const Scaling::Load now = load();
  const std::uint32_t before = scaling_->wanted();
  const Scaling::Decision decision = scaling_->look(now, steady_ns());
  if (decision.look_again_ns != 0) schedule(decision.look_again_ns);
  changed = changed || decision.wanted != before;
  for (std::size_t serving = now.serving; serving > decision.wanted && let_go_of_one(); --serving)
    changed = true;
  if (changed) surroundings_.on_change();
}

}  // namespace loam::gateway
