# make real-data DATA=FOLDER   the model beside real scans (docs/real_data.md); about half an hour
.PHONY: real-data
real-data: $(STAMP)
	@test -d "$(DATA)" || { echo "Name the folder of the real data: make real-data DATA=../shared/data"; exit 1; }
	for check in single_scans region_map oasis2 ms_pairs; do \
	  $(BIN)/python Testing/real_data/$$check.py "$(DATA)" --table docs/benchmark/real_$$check.md || exit 1; \
	done
