/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proc_cpuinfo.c: /proc/cpuinfo from CPUID (Intel SDM volume 2A, AMD APM
 * volume 3, appendix E). The words of flags are in the order Linux prints.
 */
#include "fs/procfs.h"

/* Names of the bits of one register, from bit `first`; "" = not shown. */
struct flag_word {
    uint32_t leaf, subleaf;
    uint8_t reg; /* 0-3: eax, ebx, ecx, edx */
    const char *names; /* 32 words separated by spaces, "-" = none */
};

static const struct flag_word words[] = {
    {1, 0, 3, "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca "
     "cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 "
     "pbe"},
    {0x80000001, 0, 3, "- - - - - - - - - - - syscall - - - - - - - mp nx - "
     "mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow"},
    {1, 0, 2, "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid "
     "sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt "
     "tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor"},
    {0x80000001, 0, 2, "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a "
     "misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - "
     "nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc "
     "perfctr_llc mwaitx - -"},
    {7, 0, 1, "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid "
     "rtm cqm - mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - "
     "clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw "
     "avx512vl"},
    {13, 1, 0, "xsaveopt xsavec xgetbv1 xsaves - - - - - - - - - - - - - - - "
     "- - - - - - - - - - - - -"},
    {0x80000008, 0, 1, "clzero irperf xsaveerptr - rdpru - - - - wbnoinvd - - "
     "amd_ibpb - amd_ibrs amd_stibp - - - - - - - amd_ppin amd_ssbd virt_ssbd "
     "- - - - - -"},
    {7, 0, 2, "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes "
     "vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - "
     "- - rdpid - bus_lock_detect cldemote - movdiri movdir64b enqcmd - -"},
    {7, 0, 3, "- - - - fsrm - - - avx512_vp2intersect - md_clear - - - "
     "serialize - tsxldtrk - pconfig arch_lbr - - amx_bf16 avx512_fp16 "
     "amx_tile amx_int8 - - flush_l1d arch_capabilities - -"},
};

static void show_flags(struct sbuf *s)
{
    uint32_t r[4], max_basic, max_extended;

    cpu_features(0, 0, r);
    max_basic = r[0];
    cpu_features(0x80000000, 0, r);
    max_extended = r[0];
    for (size_t n = 0; n < ARRAY_SIZE(words); n++) {
        const struct flag_word *w = &words[n];
        const char *name = w->names;
        if (w->leaf > (w->leaf & 0x80000000 ? max_extended : max_basic))
            continue;
        cpu_features(w->leaf, w->subleaf, r);
        for (int bit = 0; bit < 32 && *name; bit++) {
            size_t len = 0;
            while (name[len] && name[len] != ' ')
                len++;
            if ((r[w->reg] & (1u << bit)) && name[0] != '-') {
                sbuf_write(s, " ", 1);
                sbuf_write(s, name, len);
            }
            name += len;
            while (*name == ' ')
                name++;
        }
    }
}

/* Leaves 0x80000002-4 hold the name, padded with spaces or NULs. */
static void model_name(char out[49])
{
    uint32_t r[4];
    const char *from;

    cpu_features(0x80000000, 0, r);
    memset(out, 0, 49);
    if (r[0] < 0x80000004)
        return;
    for (uint32_t n = 0; n < 3; n++) {
        cpu_features(0x80000002 + n, 0, r);
        memcpy(out + 16 * n, r, 16);
    }
    from = out;
    while (*from == ' ')
        from++;
    memmove(out, from, strlen(from) + 1);
    for (size_t n = strlen(out); n && out[n - 1] == ' '; n--)
        out[n - 1] = 0;
}

static void show_cpu(unsigned n, struct sbuf *s, const char *name)
{
    uint32_t id[4], r[4], ext[4];
    unsigned family, model;

    cpu_features(0, 0, r);
    cpu_features(1, 0, id);
    family = id[0] >> 8 & 15;
    model = id[0] >> 4 & 15;
    if (family >= 6)
        model |= id[0] >> 12 & 0xf0;
    if (family == 15)
        family += id[0] >> 20 & 0xff;
    sbuf_printf(s, "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\n"
                "model\t\t: %u\nmodel name\t: %s\nstepping\t: %u\n", n,
                cpu_vendor(), family, model, *name ? name : "unknown",
                id[0] & 15);
    sbuf_printf(s, "cpu MHz\t\t: %lu.%03lu\n",
                (unsigned long)tsc_khz() / 1000,
                (unsigned long)tsc_khz() % 1000);
    sbuf_printf(s, "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\n"
                "cpu cores\t: %u\napicid\t\t: %u\ninitial apicid\t: %u\n"
                "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: %u\n"
                "wp\t\t: yes\nflags\t\t:", nr_cpus, n, nr_cpus,
                cpus[n]->apic_id, cpus[n]->apic_id, r[0]);
    show_flags(s);
    cpu_features(0x80000008, 0, ext);
    sbuf_printf(s, "\nbugs\t\t:\nbogomips\t: %lu.%02lu\n"
                "clflush size\t: %u\ncache_alignment\t: %u\n"
                "address sizes\t: %u bits physical, %u bits virtual\n"
                "power management:\n\n", (unsigned long)tsc_khz() / 500,
                (unsigned long)tsc_khz() / 5 % 100, (id[1] >> 8 & 255) * 8,
                (id[1] >> 8 & 255) * 8, ext[0] & 255, ext[0] >> 8 & 255);
}

int proc_show_cpuinfo(struct synth_inode *i, struct sbuf *s)
{
    char name[49];

    model_name(name);
    for (unsigned n = 0; n < nr_cpus; n++)
        show_cpu(n, s, name);
    return 0;
}
