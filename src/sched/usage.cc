#include "sched/usage.h"

#include <algorithm>
#include <array>

#include "base/result.h"

namespace loam::sched {
namespace {

constexpr int kFractionBits = 32;
constexpr int kRootBits = 62;
constexpr int kHalfLivesMax = 24;                    // of an epoch
constexpr std::int64_t kInverseLn2 = 6'196'328'019;  // 2^32 / ln 2

constexpr std::uint64_t square_root(unsigned __int128 of) {
  std::uint64_t root = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const std::uint64_t candidate = root | (std::uint64_t{1} << bit);
    if (static_cast<unsigned __int128>(candidate) * candidate <= of) root = candidate;
  }
  return root;
}

// 2^(1/2), 2^(1/4), 2^(1/8), … times 2^62.
constexpr std::array<std::uint64_t, kFractionBits> make_roots() {
  std::array<std::uint64_t, kFractionBits> roots{};
  unsigned __int128 of = static_cast<unsigned __int128>(2) << kRootBits;
  for (auto& root : roots) {
    root = square_root(of << kRootBits);
    of = root;
  }
  return roots;
}
constexpr auto kRoots = make_roots();

// 2^exponent times 2^62, for the fraction exponent / 2^32 below one.
std::uint64_t power_of_two(std::uint64_t fraction) {
  std::uint64_t product = std::uint64_t{1} << kRootBits;
  for (int bit = 0; bit < kFractionBits; ++bit)
    if ((fraction >> (kFractionBits - 1 - bit)) & 1)
      product = static_cast<std::uint64_t>(
          (static_cast<unsigned __int128>(product) * kRoots[static_cast<std::size_t>(bit)]) >>
          kRootBits);
  return product;
}

}  // namespace

Wide StretchedTime::growth(Time now) const {
  const std::int64_t since =
      std::clamp<std::int64_t>(now - epoch_, 0, half_life_ms_ * kHalfLivesMax * 2);
  const std::int64_t whole = since / half_life_ms_;
  const std::int64_t rest = since % half_life_ms_;
  const auto fraction = static_cast<std::uint64_t>((Wide{rest} << kFractionBits) / half_life_ms_);
  return (Wide{power_of_two(fraction)} >> (kRootBits - kUnitBits)) << whole;
}

Wide StretchedTime::at(Time now) const {
  const std::int64_t since =
      std::clamp<std::int64_t>(now - epoch_, 0, half_life_ms_ * kHalfLivesMax * 2);
  const std::int64_t whole = since / half_life_ms_;
  const auto fraction =
      static_cast<std::uint64_t>((Wide{since % half_life_ms_} << kFractionBits) / half_life_ms_);
  // half-life / ln 2 × 2^x, with 16 bits behind the point.
  const Wide scale = (Wide{half_life_ms_} * kInverseLn2) >> (32 - kUnitBits);
  return ((scale * static_cast<Wide>(power_of_two(fraction) >> 22)) >> (kRootBits - 22)) << whole;
}

bool StretchedTime::wants_new_epoch(Time now) const {
  return now - epoch_ >= half_life_ms_ * kHalfLivesMax;
}

int StretchedTime::advance(Time now) {
  const std::int64_t whole = (now - epoch_) / half_life_ms_;
  epoch_ += whole * half_life_ms_;
  return static_cast<int>(std::min<std::int64_t>(whole, 120));
}

std::int64_t amount_left(const HeldSpan& span, std::int64_t half_life_ms, Time now) {
  StretchedTime time(std::max<std::int64_t>(half_life_ms, 1));
  time.start(now - kHalfLivesCounted * half_life_ms);
  const Time to = std::min(span.to, now), from = std::min(span.from, to);
  const Wide weight = from == to ? time.growth(to) : (time.at(to) - time.at(from)) / (to - from);
  return static_cast<std::int64_t>(Wide{span.amount} * weight / time.growth(now));
}

FairShare::FairShare(const Policy& policy) { set_policy(policy, 0); }

void FairShare::set_policy(const Policy& policy, Time now) {
  const auto before = rows(now);
  std::vector<std::int64_t> rates;
  for (const Association& one : associations_) rates.push_back(one.ledger.rate);
  enabled_ = policy.fair_share;
  foresight_ms_ = policy.foresight_ms;
  account_parties_ = policy.accounts;
  user_parties_ = policy.users;
  time_ = StretchedTime(std::max<std::int64_t>(policy.half_life_ms, 1));
  const auto shares = [](const std::map<std::string, Party>& parties, const std::string& name) {
    const auto found = parties.find(name);
    return found == parties.end() ? 1 : std::max<std::int64_t>(found->second.shares, 1);
  };
  for (Account& one : accounts_) {
    one.shares = shares(account_parties_, one.name);
    one.ledger = {};
  }
  for (Association& one : associations_) {
    one.shares = shares(user_parties_, user_names_[one.user]);
    one.ledger = {};
  }
  for (const UsageRow& row : before) restore(row, now);
  for (Index i = 0; i < rates.size(); ++i)
    if (rates[i] != 0) change_rate(i, rates[i], now);
}

FairShare::Index FairShare::account(const std::string& name) {
  const auto [found, fresh] = account_index_.emplace(name, static_cast<Index>(accounts_.size()));
  if (fresh) {
    const auto party = account_parties_.find(name);
    const std::int64_t shares = party == account_parties_.end() ? 1 : party->second.shares;
    accounts_.push_back({.name = name, .shares = std::max<std::int64_t>(shares, 1)});
  }
  return found->second;
}

FairShare::Index FairShare::association(const std::string& account_name, const std::string& user) {
  const Index of = account(account_name);
  const auto [user_found, user_fresh] =
      user_index_.emplace(user, static_cast<Index>(user_names_.size()));
  if (user_fresh) user_names_.push_back(user);
  const Index user_at = user_found->second;
  const auto [found, fresh] =
      association_index_.emplace(std::pair(of, user_at), static_cast<Index>(associations_.size()));
  if (fresh) {
    const auto party = user_parties_.find(user);
    const std::int64_t shares = party == user_parties_.end() ? 1 : party->second.shares;
    associations_.push_back(
        {.account = of, .user = user_at, .shares = std::max<std::int64_t>(shares, 1)});
  }
  return found->second;
}

const std::string& FairShare::account_name(Index association) const {
  return accounts_[associations_[association].account].name;
}
const std::string& FairShare::user_name(Index association) const {
  return user_names_[associations_[association].user];
}

std::optional<FairShare::Index> FairShare::find_user(const std::string& user) const {
  const auto found = user_index_.find(user);
  return found == user_index_.end() ? std::nullopt : std::optional(found->second);
}
std::optional<FairShare::Index> FairShare::find_account(const std::string& name) const {
  const auto found = account_index_.find(name);
  return found == account_index_.end() ? std::nullopt : std::optional(found->second);
}

void FairShare::prepare(Time now) {
  if (!time_.started()) time_.start(now);
  if (!time_.wants_new_epoch(now)) return;
  const Wide before = time_.at(now);
  const int shift = time_.advance(now);
  const Wide after = time_.at(now);
  const auto move = [&](Ledger& ledger) {
    ledger.base = (ledger.at(before) >> shift) - Wide{ledger.rate} * after;
  };
  for (Association& one : associations_) move(one.ledger);
  for (Account& one : accounts_) one.ledger = {.base = 0, .rate = one.ledger.rate};
  // Rounded once, so that an account stays the sum of its users.
  for (const Association& one : associations_)
    accounts_[one.account].ledger.base += one.ledger.base;
}

void FairShare::change_rate(Index association, std::int64_t by, Time now) {
  prepare(now);
  const Wide stretched = time_.at(now);
  Association& one = associations_[association];
  for (Ledger* ledger : {&one.ledger, &accounts_[one.account].ledger}) {
    ledger->base -= Wide{by} * stretched;
    ledger->rate += by;
  }
}

Wide FairShare::key(const Ledger& ledger, std::int64_t shares, const Moment& moment,
                    std::int64_t extra) const {
  if (!enabled_) return 0;
  const Wide used = ledger.at(moment.stretched);
  const Wide held = (Wide{ledger.rate} + extra) * foresight_ms_ * moment.growth;
  return shares == 1 ? used + held : (used + held) / shares;
}

Wide FairShare::account_key(Index account, const Moment& moment, std::int64_t extra) const {
  return key(accounts_[account].ledger, accounts_[account].shares, moment, extra);
}
Wide FairShare::association_key(Index association, const Moment& moment, std::int64_t extra) const {
  const Association& one = associations_[association];
  return key(one.ledger, one.shares, moment, extra);
}

std::vector<UsageRow> FairShare::rows(Time now) const {
  std::vector<UsageRow> list;
  const Wide stretched = time_.at(now), growth = time_.growth(now);
  for (const Association& one : associations_)
    if (const Wide used = one.ledger.at(stretched); used > 0)
      list.push_back({accounts_[one.account].name, user_names_[one.user],
                      static_cast<std::int64_t>(used / growth)});
  return list;
}

void FairShare::restore(const UsageRow& row, Time now) {
  prepare(now);
  Association& one = associations_[association(row.account, row.user)];
  const Wide amount = Wide{row.amount} * time_.growth(now);
  one.ledger.base += amount;
  accounts_[one.account].ledger.base += amount;
}

bool FairShare::sane(Time now) const {
  std::vector<Ledger> sums(accounts_.size());
  for (const Association& one : associations_) {
    if (one.ledger.rate < 0 || one.ledger.at(time_.at(now)) < 0) return false;
    sums[one.account].base += one.ledger.base;
    sums[one.account].rate += one.ledger.rate;
  }
  for (std::size_t i = 0; i < accounts_.size(); ++i)
    if (sums[i].base != accounts_[i].ledger.base || sums[i].rate != accounts_[i].ledger.rate)
      return false;
  return true;
}

}  // namespace loam::sched
