// Tokens: what stands for a user where the kernel cannot say who calls. Made over the Unix socket
// alone, shown once, kept as a SHA-256.
//
//   loam_17_9f86d0…  ─ row 17 ─ same hash? expired? user still there? ─▶ Caller, narrowed to its scope
//
// A hash without salt and stretching is enough here: 256 random bits cannot be guessed, whatever a
// guess costs, and no two are alike. Trust: what is presented is foreign bytes. Threads: the loop.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "node/database.h"
#include "node/http_server.h"

namespace loam::node {

inline constexpr std::size_t kTokensOfUserMax = 100;
inline constexpr std::int64_t kFailuresFree = 10;         // of one address, in
inline constexpr std::int64_t kFailureWindowMs = 60'000;  // this time; then 429 until it is over
inline constexpr std::size_t kFailedAddressesMax = 4096;
inline constexpr std::int64_t kFailureLinesMax = 20;  // in the log, within that time

struct TokenRow {
  std::int64_t id = 0;
  std::uint32_t uid = kNobody;
  std::string name;
  Scope scope = Scope::none;
  std::int64_t created_ms = 0, expires_ms = 0, used_ms = 0;  // 0: never
};

class Tokens {
 public:
  explicit Tokens(Database& database) : database_(database) {}

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
  Result<Caller> admit(std::string_view token, const std::string& address, std::int64_t now_ms);

 private:
  struct Failures {
    std::int64_t since_ms = 0, count = 0;
  };
  struct Known {
    Caller caller;
    std::int64_t until_ms = 0;
  };
  Result<Caller> caller_of(const TokenRow& row, std::int64_t now_ms);
  void tell(const std::string& text, std::int64_t now_ms);
  Error failed(const std::string& address, std::int64_t now_ms);

  Database& database_;
  std::map<std::string, Failures> failures_;
  Failures told_;  // lines of the log
  std::map<std::uint32_t, Known> known_;  // users and their groups, for a minute
};

std::string_view scope_name(Scope scope);
Result<Scope> scope_named(std::string_view name);
Json to_json(const TokenRow& row);

}  // namespace loam::node
