#include "paella/gpu/sim/sm_array.hpp"

#include <algorithm>
#include <functional>

#include "paella/error.hpp"

namespace paella::gpu::sim {
namespace {

// Room is computed with reciprocals. The smallest distance of a true quotient from the next
// integer is one unit of shared memory in 1,824 (5e-4), far above this and above rounding.
constexpr float kRoundUp = 1e-4F;
constexpr double kEndSlackNs = 1e-3;
constexpr double kTogether = 0.1;  // of a block's work

}  // namespace

SmArray::SmArray(const plan::SmLimits& sm, record::Timeline* timeline)
    : capacity_(plan::capacity(sm)),
      timeline_(timeline),
      classes_(sm.count),
      groups_(sm.count),
      room_(sm.count),
      ends_(sm.count) {
  if (sm.blocks > kMaxGroups) {
    throw Error("an SM with " + std::to_string(sm.blocks) + " block slots: at most " +
                std::to_string(kMaxGroups) + " are supported");
  }
  classes_[0].sms = sm.count;
  classes_[0].free = capacity_;
  touched_.reserve(sm.count);
  emptied_.reserve(sm.count);
  if (timeline_) {
    ids_.resize(sm.count);
    starts_.resize(sm.count);
    for (std::int32_t i = 0; i < sm.count; ++i) ids_[0].push_back(i);
  }
}

void SmArray::touch(std::int32_t c, TimeNs now) {
  Class& k = classes_[c];
  if (k.touched) return;
  k.touched = true;
  if (k.groups > 0) k.virtual_ns += static_cast<double>(now - k.at_ns) * k.rate;
  k.at_ns = now;
  touched_.push_back(c);
}

void SmArray::finish(TimeNs now, std::vector<Finished>& finished) {
  ends_.each_until(now, [&](std::int32_t c) {
    touch(c, now);
    Class& k = classes_[c];
    const Groups& groups = groups_[c];
    // The due group ends whatever rounding left of it.
    k.virtual_ns = std::max(k.virtual_ns, groups[k.groups - 1].end);
    while (k.groups > 0 && groups[k.groups - 1].end <= k.virtual_ns + kEndSlackNs) {
      const Group& g = groups[--k.groups];
      const KernelCost& cost = *runs_[g.run].cost;
      const auto blocks = static_cast<float>(g.blocks);
      k.free.warps += blocks * cost.block.warps;
      k.free.regs += blocks * cost.block.regs;
      k.free.smem += blocks * cost.block.smem;
      k.free.blocks += blocks;
      k.load -= g.blocks * cost.load;
      const std::int64_t ended = std::int64_t{g.blocks} * k.sms;
      if (!finished.empty() && finished.back().run == g.run) {
        finished.back().blocks += ended;
      } else {
        finished.push_back({g.run, ended});
      }
      if (timeline_) {
        for (const std::int32_t sm : ids_[c]) {
          for (const Start& start : starts_[c][k.groups]) {
            timeline_->blocks.push_back({.kernel = g.run,
                                         .sm = sm,
                                         .blocks = start.blocks,
                                         .started_ns = start.at_ns,
                                         .finished_ns = now + idle_ns_});
          }
        }
      }
    }
  });
}

std::int32_t SmArray::room(const Class& k, const KernelCost& cost) const {
  const plan::SmUnits& free = k.free;
  const float fit = std::min(std::min(free.warps * cost.inv_warps, free.regs * cost.inv_regs),
                             std::min(free.smem * cost.inv_smem, free.blocks));
  return static_cast<std::int32_t>(fit + kRoundUp);
}

std::int64_t SmArray::place(std::int32_t run, const KernelCost& cost, double work_ns,
                            std::int64_t blocks, TimeNs now, Where where) {
  const bool everywhere = where == Where::kEverywhere;
  const auto candidates = static_cast<std::int32_t>(everywhere ? active_ : touched_.size());
  const auto candidate = [&](std::int32_t i) { return everywhere ? i : touched_[i]; };
  if (static_cast<std::size_t>(run) >= runs_.size()) runs_.resize(run + 1);
  runs_[run] = {&cost, work_ns};

  if (candidates == 1) {
    const std::int32_t c = candidate(0);
    const Class& k = classes_[c];
    const std::int64_t placed = std::min(blocks, std::int64_t{room(k, cost)} * k.sms);
    if (placed == 0) return 0;
    if (placed % k.sms == 0) {
      touch(c, now);
      add(c, run, static_cast<std::int32_t>(placed / k.sms));
      return placed;
    }
  }

  // How many SMs have room for exactly so many blocks.
  std::array<std::int32_t, kMaxGroups + 1> sms_with;
  std::fill_n(sms_with.begin(), cost.blocks_per_sm + 1, 0);
  std::int32_t level = 0;
  for (std::int32_t i = 0; i < candidates; ++i) {
    const Class& k = classes_[candidate(i)];
    room_[i] = room(k, cost);
    sms_with[room_[i]] += k.sms;
    level = std::max(level, room_[i]);
  }

  // One block at a time to the roomiest SM fills all SMs down to a common level of room; the last
  // blocks reach only some of the SMs at that level.
  std::int64_t left = blocks;
  std::int64_t roomiest = sms_with[level];
  while (level > 0 && left >= roomiest) {
    left -= roomiest;
    roomiest += sms_with[--level];
  }
  std::int64_t last = level > 0 ? left : 0;
  for (std::int32_t i = 0; i < candidates; ++i) {
    if (room_[i] == 0 || room_[i] < level) continue;
    const std::int32_t c = candidate(i);
    const std::int32_t each = room_[i] - level;
    const auto one_more = static_cast<std::int32_t>(std::min<std::int64_t>(last, classes_[c].sms));
    last -= one_more;
    if (each == 0 && one_more == 0) continue;
    touch(c, now);
    if (one_more > 0 && one_more < classes_[c].sms) {
      const std::int32_t rest = split(c, classes_[c].sms - one_more);
      if (each > 0) add(rest, run, each);
    }
    add(c, run, each + (one_more > 0));
  }
  return level > 0 ? blocks : blocks - left;
}

void SmArray::add(std::int32_t c, std::int32_t run, std::int32_t blocks) {
  Class& k = classes_[c];
  const auto [cost, work_ns] = runs_[run];
  const auto n = static_cast<float>(blocks);
  k.free.warps -= n * cost->block.warps;
  k.free.regs -= n * cost->block.regs;
  k.free.smem -= n * cost->block.smem;
  k.free.blocks -= n;
  k.load += blocks * cost->load;

  Groups& groups = groups_[c];
  Group group{k.virtual_ns + work_ns, run, blocks};
  std::int32_t at = k.groups;
  const double near = group.end - kTogether * work_ns;
  for (std::int32_t i = at; i-- > 0 && groups[i].end <= group.end;) {
    if (groups[i].run != run || groups[i].end < near) continue;
    const std::int32_t both = groups[i].blocks + blocks;
    group.end = (groups[i].end * groups[i].blocks + group.end * blocks) / both;
    group.blocks = both;
    at = i;  // takes the other's place
    break;
  }
  if (at == k.groups) {
    ++k.groups;
    ++groups_placed_;
    if (timeline_) starts_[c][at].clear();
  }
  if (timeline_) starts_[c][at].push_back({k.at_ns + idle_ns_, blocks});
  for (; at > 0 && groups[at - 1].end < group.end; --at) {
    groups[at] = groups[at - 1];
    if (timeline_) std::swap(starts_[c][at], starts_[c][at - 1]);
  }
  groups[at] = group;
}

void SmArray::settle(TimeNs now) {
  for (std::int32_t c : touched_) {
    Class& k = classes_[c];
    k.touched = false;
    if (k.groups == 0) {
      k.load = 0;
      k.virtual_ns = 0;
      ends_.set(c, kNever);
      emptied_.push_back(c);
      continue;
    }
    const double slowed = slowdown(k.load);
    k.rate = 1 / slowed;
    const double left_ns = (groups_[c][k.groups - 1].end - k.virtual_ns) * slowed;
    ends_.set(c, now + static_cast<TimeNs>(left_ns) + 1);
  }
  touched_.clear();
  if (!emptied_.empty()) merge_empty();
}

std::int32_t SmArray::split(std::int32_t c, std::int32_t sms) {
  const std::int32_t to = active_++;
  copy(c, to);
  classes_[to].sms = sms;
  classes_[c].sms -= sms;
  touched_.push_back(to);  // like c
  if (timeline_) {
    ids_[to].assign(ids_[c].end() - sms, ids_[c].end());
    ids_[c].resize(ids_[c].size() - sms);
  }
  return to;
}

void SmArray::copy(std::int32_t from, std::int32_t to) {
  classes_[to] = classes_[from];
  std::copy_n(groups_[from].begin(), classes_[from].groups, groups_[to].begin());
  if (timeline_) {
    std::copy_n(starts_[from].begin(), classes_[from].groups, starts_[to].begin());
  }
}

// All SMs that run empty become one class: the one with the lowest index.
void SmArray::merge_empty() {
  std::int32_t keep = 0;
  while (classes_[keep].groups > 0) ++keep;
  std::sort(emptied_.begin(), emptied_.end(), std::greater<>());
  for (const std::int32_t c : emptied_) {
    if (c == keep) continue;
    classes_[keep].sms += classes_[c].sms;
    if (timeline_) {
      ids_[keep].insert(ids_[keep].end(), ids_[c].begin(), ids_[c].end());
      std::sort(ids_[keep].begin(), ids_[keep].end());
    }
    const std::int32_t last = --active_;
    if (c != last) {
      copy(last, c);
      ends_.set(c, ends_.time(last));
      ends_.set(last, kNever);
      if (timeline_) ids_[c].swap(ids_[last]);
    }
    if (timeline_) ids_[last].clear();
  }
  emptied_.clear();
}

std::vector<SmArray::Usage> SmArray::usage() const {
  std::vector<Usage> all;
  for (std::int32_t c = 0; c < active_; ++c) {
    const Class& k = classes_[c];
    const auto used = [](float capacity, float free) {
      return static_cast<std::int32_t>(capacity - free);
    };
    all.push_back({.sms = k.sms,
                   .warps = used(capacity_.warps, k.free.warps),
                   .regs = used(capacity_.regs, k.free.regs),
                   .smem = used(capacity_.smem, k.free.smem),
                   .blocks = used(capacity_.blocks, k.free.blocks)});
  }
  return all;
}

}  // namespace paella::gpu::sim
