#include "devices/topology.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <map>
#include <set>

#include "base/files.h"
#include "devices/huge_pages.h"

namespace loam::devices {
namespace {

TEST(Topology, ThreadsCoresNodesAndSharedCachesOfAMadeUpMachine) {
  // Two packages with a NUMA node each, two last-level caches in each, two cores of two threads.
  const auto found = read_cpus("pack:2 [numa(memory=8589934592)] l3:2 core:2 pu:2");
  ASSERT_TRUE(found) << found.error().text;
  ASSERT_EQ(found->nodes.size(), 2U);
  EXPECT_EQ(found->nodes[1].memory_bytes, 8589934592U);
  ASSERT_EQ(found->cpus.size(), 16U);
  std::map<std::uint32_t, int> threads_of_core, threads_of_cache, threads_of_node;
  for (const Cpu& cpu : found->cpus) {
    ++threads_of_core[cpu.core];
    ++threads_of_cache[cpu.cache];
    ++threads_of_node[cpu.numa];
    // A core lies in one cache, a cache on one node.
    EXPECT_EQ(cpu.cache, cpu.core / 2);
    EXPECT_EQ(cpu.numa, cpu.cache / 2);
  }
  for (const auto& [core, count] : threads_of_core) EXPECT_EQ(count, 2) << core;
  EXPECT_EQ(threads_of_core.size(), 8U);
  EXPECT_EQ(threads_of_cache, (std::map<std::uint32_t, int>{{0, 4}, {1, 4}, {2, 4}, {3, 4}}));
  EXPECT_EQ(threads_of_node, (std::map<std::uint32_t, int>{{0, 8}, {1, 8}}));
}

TEST(Topology, ThisMachinesCpusAreThoseThatThisProcessMayUse) {
  const auto all = read_cpus();
  ASSERT_TRUE(all) << all.error().text;
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(static_cast<int>(all->cpus.size()), CPU_COUNT(&before));
  std::set<std::uint32_t> ids;
  for (const Cpu& cpu : all->cpus) {
    EXPECT_TRUE(CPU_ISSET(cpu.id, &before));
    EXPECT_LT(cpu.numa, all->nodes.size());
    ids.insert(cpu.id);
  }
  EXPECT_EQ(ids.size(), all->cpus.size());
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(*ids.rbegin(), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  const auto few = read_cpus();
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
  ASSERT_TRUE(few);
  ASSERT_EQ(few->cpus.size(), 1U);
  EXPECT_EQ(few->cpus[0].id, *ids.rbegin());
}

TEST(Topology, WhatIsNoMachineIsAnError) { EXPECT_FALSE(read_cpus("nonsense")); }

TEST(HugePages, EverySizeWithItsPool) {
  char name[] = "/tmp/loam-hugepages-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string folder = name;
  for (const auto& [pool, total, free] :
       {std::tuple("hugepages-1048576kB", "2\n", "1\n"), std::tuple("hugepages-2048kB", "64\n", "64\n")}) {
    ASSERT_TRUE(make_folders(folder + "/" + pool));
    ASSERT_TRUE(write_file_atomic(folder + "/" + pool + "/nr_hugepages", total));
    ASSERT_TRUE(write_file_atomic(folder + "/" + pool + "/free_hugepages", free));
  }
  ASSERT_TRUE(make_folders(folder + "/other"));
  EXPECT_EQ(read_huge_pages(folder), (std::vector<HugePages>{{2u << 20, 64, 64}, {1u << 30, 2, 1}}));
  EXPECT_TRUE(read_huge_pages(folder + "/nowhere").empty());
  ASSERT_TRUE(remove_tree(folder));
}

}  // namespace
}  // namespace loam::devices
