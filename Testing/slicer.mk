# make package    the archive for Slicer's "Install extension from file", in dist/
# make pictures   pictures of panel and slice views for README and index, in docs/pictures/
# make list       write the lists of installed files in the CMakeLists.txt anew
# make benchmark  also measures the panel beside the command line
.PHONY: package pictures list benchmark-panel
list: $(STAMP)
	$(BIN)/python Testing/Slicer/list_library.py

package: $(STAMP)
	$(BIN)/python Testing/Slicer/list_library.py --check
	for system in linux macosx win; do $(BIN)/python Testing/Slicer/build_package.py --system $$system; done

pictures: $(STAMP)
	$(BIN)/python Testing/Slicer/make_pictures.py
	$(BIN)/python Testing/Slicer/make_training_picture.py

benchmark: benchmark-panel
benchmark-panel: $(STAMP)
	$(BIN)/python Testing/Slicer/benchmark_panel.py
