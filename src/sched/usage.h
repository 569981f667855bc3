// Fair share: what each user of each account has held, half of it forgotten each half-life.
//
// Everybody's usage decays alike, so instead of lowering all of it as time passes, what is held
// later counts for more: an hour at time t weighs 2^(t / half-life). Between two changes of what
// somebody holds, his usage is a straight line over that stretched time, which costs nothing to
// keep and adds up exactly (integers only). When the numbers grow, all are halved together.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sched/claim.h"
#include "sched/policy.h"

namespace loam::sched {

__extension__ using Wide = __int128;

// Thousandths of points × milliseconds, as of a moment.
struct UsageRow {
  std::string account, user;
  std::int64_t amount = 0;
};

class StretchedTime {
 public:
  StretchedTime() = default;
  explicit StretchedTime(std::int64_t half_life_ms) : half_life_ms_(half_life_ms) {}
  // Never falls; rises by `kUnit` a millisecond at the epoch and twice as fast each half-life on.
  Wide at(Time now) const;
  // kUnit × 2^((now - epoch) / half-life)
  Wide growth(Time now) const;
  bool wants_new_epoch(Time now) const;
  // Moves the epoch on by whole half-lives; all amounts shrink by 2^(what it returns).
  int advance(Time now);
  void start(Time now) { epoch_ = now, started_ = true; }
  bool started() const { return started_; }
  static constexpr int kUnitBits = 16;

 private:
  std::int64_t half_life_ms_ = 7LL * 24 * 3600 * 1000;
  Time epoch_ = 0;
  bool started_ = false;
};

// What was had between two moments, both past, evenly: from what was written down of it a caller
// that starts again knows what it still counts.
struct HeldSpan {
  std::int64_t amount = 0;  // a rate, as of FairShare::change_rate, times milliseconds
  Time from = 0, to = 0;
};
// Older than this many half-lives it counts for nothing (1 / 65,536).
inline constexpr std::int64_t kHalfLivesCounted = 16;
// UsageRow::amount as of `now`.
std::int64_t amount_left(const HeldSpan& span, std::int64_t half_life_ms, Time now);

class FairShare {
 public:
  using Index = std::uint32_t;
  FairShare() = default;
  explicit FairShare(const Policy& policy);

  Index association(const std::string& account, const std::string& user);
  const std::string& account_name(Index association) const;
  const std::string& user_name(Index association) const;
  Index account_of(Index association) const { return associations_[association].account; }
  Index user_of(Index association) const { return associations_[association].user; }
  std::optional<Index> find_user(const std::string& user) const;
  std::optional<Index> find_account(const std::string& account) const;
  const std::string& name_of_user(Index user) const { return user_names_[user]; }
  const std::string& name_of_account(Index account) const { return accounts_[account].name; }
  std::size_t associations() const { return associations_.size(); }
  std::size_t accounts() const { return accounts_.size(); }
  std::size_t users() const { return user_names_.size(); }

  // From `now` on it holds this much more (or less), in thousandths of points an hour.
  void change_rate(Index association, std::int64_t by, Time now);
  std::int64_t rate(Index association) const { return associations_[association].ledger.rate; }

  // Whose turn it is: the least first. `extra`: rates that are to be counted as held.
  struct Moment {
    Wide stretched = 0, growth = 0;
  };
  Moment moment(Time now) const { return {time_.at(now), time_.growth(now)}; }
  Wide account_key(Index account, const Moment& moment, std::int64_t extra) const;
  Wide association_key(Index association, const Moment& moment, std::int64_t extra) const;

  std::vector<UsageRow> rows(Time now) const;
  void restore(const UsageRow& row, Time now);  // adds it
  void set_policy(const Policy& policy, Time now);
  bool sane(Time now) const;

 private:
  struct Ledger {
    Wide base = 0;
    std::int64_t rate = 0;
    Wide at(Wide stretched) const { return base + Wide{rate} * stretched; }
  };
  struct Account {
    std::string name;
    std::int64_t shares = 1;
    Ledger ledger;
  };
  struct Association {
    Index account = 0;
    Index user = 0;
    std::int64_t shares = 1;
    Ledger ledger;
  };
  Wide key(const Ledger& ledger, std::int64_t shares, const Moment& moment,
           std::int64_t extra) const;
  Index account(const std::string& name);
  void prepare(Time now);  // the first moment is the epoch; a far one moves it

  StretchedTime time_;
  std::int64_t foresight_ms_ = 0;
  bool enabled_ = true;
  std::map<std::string, Party> account_parties_, user_parties_;
  std::vector<Account> accounts_;
  std::vector<Association> associations_;
  std::map<std::string, Index> account_index_, user_index_;
  std::vector<std::string> user_names_;
  std::map<std::pair<Index, Index>, Index> association_index_;
};

}  // namespace loam::sched
