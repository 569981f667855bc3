// Tokens: what stands for a user where the kernel cannot say who calls. Made over the Unix socket
// alone, shown once, kept as a SHA-256.
//
//   loam_17_9f86d0…  ─ row 17 ─ same hash? expired? its user still he? ─▶ Caller, narrowed to its scope
//
// Its user is a number and a name: where the number is another's by now, or the name has another
// number, it stands for nobody.
//
// A hash without salt and stretching is enough here: 256 random bits cannot be guessed, whatever a
// guess costs, and no two are alike. Trust: what is presented is foreign bytes. Threads: the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "node/database.h"
#include "node/http_server.h"
#include "node/system_users.h"

namespace loam::node {

inline constexpr std::size_t kTokensOfUserMax = 100;
inline constexpr std::int64_t kFailuresFree = 10;         // of one address, in
inline constexpr std::int64_t kFailureWindowMs = 60'000;  // this time; then 429 until it is over
inline constexpr std::size_t kFailedAddressesMax = 4096;
inline constexpr std::int64_t kFailureLinesMax = 20;  // in the log, within that time

struct TokenRow {
  std::int64_t id = 0;
  std::uint32_t uid = kNobody;
  std::string user;  // his name; "": of a token made before names were kept, until its first use
  std::string name;
  Scope scope = Scope::none;
  std::int64_t created_ms = 0, expires_ms = 0, used_ms = 0;  // 0: never
};

class Tokens {
 public:
  // A user with his groups, now. The answer comes on the loop, at once or later: who is asked may be a
  // directory on the network.
  struct Member {
    SystemUser user;
    std::vector<std::uint32_t> groups;
  };
  using LookUp = std::function<void(std::uint32_t uid, std::function<void(Result<Member>)> found)>;
  // Ages go by the clock that never jumps, expiry by the time of day.
  struct Now {
    std::int64_t wall_ms = 0, steady_ms = 0;
  };
  using Clock = std::function<Now()>;
  Tokens(Database& database, LookUp look_up, Clock clock)
      : database_(database), look_up_(std::move(look_up)), clock_(std::move(clock)) {}

  struct Made {
    TokenRow row;
    std::string token;
  };
  // exists: he has one of that name. full: he has too many.
  Result<Made> create(TokenRow wanted);
  std::vector<TokenRow> of_user(std::uint32_t uid);
  // By its number or name. not_found: he has none such.
  Result<std::int64_t> revoke(std::uint32_t uid, const std::string& which);

  // Who comes from `address` with this. denied: with nothing that counts. busy: it has failed too
  // often from there. A right one is right also then: were it not, one neighbour behind the same
  // address could lock out all others, and there is nothing to protect by it.
  // unavailable: the machine's name service does not say who he is.
  using Answer = std::function<void(Result<Caller>)>;
  void admit(std::string_view token, const std::string& address, Answer answer);

 private:
  struct Failures {
    std::int64_t since_ms = 0, count = 0;
    bool over(std::int64_t now_ms) const { return now_ms - since_ms >= kFailureWindowMs; }
  };
  struct Known {
    Member member;
    std::int64_t since_ms = 0;
  };
  std::optional<TokenRow> row_of(std::string_view token);
  std::optional<TokenRow> row_numbered(std::int64_t id);
  Result<Caller> caller_of(TokenRow row, const Member& member);
  void found(const TokenRow& row, Result<Member> member, const Answer& answer);
  void tell(const std::string& text, std::int64_t now_ms);
  Error failed(const std::string& address, std::int64_t now_ms);

  Database& database_;
  LookUp look_up_;
  Clock clock_;
  std::map<std::string, Failures> failures_;  // by place (address.h)
  Failures told_;  // lines of the log
  std::map<std::uint32_t, Known> known_;  // users and their groups, for a minute
};

// As this process finds it, at once.
Result<Tokens::Member> look_up_member(std::uint32_t uid);
Tokens::Now token_clock();

std::string_view scope_name(Scope scope);
Result<Scope> scope_named(std::string_view name);
Json to_json(const TokenRow& row);

}  // namespace loam::node
