# SPDX-License-Identifier: BSD-2-Clause
# The VMA tree (mm/vma.c). Included before the programs are listed for good:
# -include vma.mk after TESTS := in the Makefile.
TESTS += test_vma
test_vma_DEPS := mm/vma.c
