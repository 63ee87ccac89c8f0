"""Take the nodes of a run out of the scene, with what belongs only to them."""

import slicer
import vtk


def remove(nodes: list, attribute: str, identifier: str) -> None:
    """Remove nodes, their display and storage nodes, and the subject hierarchy folder with this attribute."""
    scene = slicer.mrmlScene
    browsers = [node for node in nodes if node.IsA("vtkMRMLSequenceBrowserNode")]
    for browser in browsers:
        browser.SetPlaybackActive(False)
    companions = []
    for node in nodes:
        if node.IsA("vtkMRMLDisplayableNode"):
            companions += [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        if node.IsA("vtkMRMLStorableNode"):
            companions += [node.GetNthStorageNode(index) for index in range(node.GetNumberOfStorageNodes())]
    rest = [node for node in nodes if node not in browsers]
    for node in [*browsers, *rest, *companions]:  # a browser first: it would make its proxies again
        if node is not None and scene.IsNodePresent(node):
            scene.RemoveNode(node)
    removeFolder(attribute, identifier)


def removeFolder(attribute: str, identifier: str) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), children, True)
    for index in range(children.GetNumberOfIds()):
        item = children.GetId(index)
        if hierarchy.GetItemAttribute(item, attribute) == identifier:
            hierarchy.RemoveItem(item, False, True)
            return
